package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Sync is what a commit on the primary waits for.
type Sync string

const (
	// SyncOff waits for no replica: replication is asynchronous.
	SyncOff Sync = ""
	// SyncOn waits until each synchronous replica has the commit on its disk,
	// where a read may not see it yet.
	SyncOn Sync = "on"
	// SyncRemoteApply waits until each synchronous replica has applied the
	// commit, so that reads there see it.
	SyncRemoteApply Sync = "remote_apply"
)

// The server settings behind synchronous replication.
const (
	settingSyncStandbys = "synchronous_standby_names"
	settingSyncCommit   = "synchronous_commit"
)

func (m Sync) check() error {
	if m != SyncOff && m != SyncOn && m != SyncRemoteApply {
		return fmt.Errorf("unknown synchronous mode %q: give %q, %q, or nothing for asynchronous", string(m), SyncOn, SyncRemoteApply)
	}
	return nil
}

// SetSynchronous makes the primary's commits wait for the named replicas, or
// for all of them if none is named, those added later too. It works on the
// running cluster and returns once pg_stat_replication says that the replicas
// are synchronous and sessions that exist already commit that way.
//
// Commits wait for every one of them: one that is stopped, killed, frozen or
// cut makes commits hang, which is what the mode is for, and is the only one
// that SetSynchronous itself does not wait for. SetSynchronous(ctx, SyncOff)
// lets commits that hang go through.
//
// The mode is kept over restarts. A promotion takes it along: commits on the
// new primary wait for those of its replicas that run at that moment and are not
// cut, and for others from when they stream again ([Node.Start], [Node.Thaw],
// [Node.Heal], [Node.Rejoin]). If there is none, they wait for nobody. An
// overtaken primary goes on waiting for its former replicas, so that nothing is
// acknowledged on both sides of a split brain. After a promotion done with SQL
// commits wait for nobody until [Cluster.Promote] has made the replicas follow.
//
// Names may include the primary's, which counts once it is a replica.
func (c *Cluster) SetSynchronous(ctx context.Context, mode Sync, replicas ...string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.setSynchronous(ctx, mode, replicas); err != nil {
		return fmt.Errorf("set synchronous replicas: %w", err)
	}
	words := "asynchronous"
	if mode != SyncOff {
		words = "synchronous (" + string(mode) + ")"
	}
	c.logf("replication is %s", words)
	return nil
}

func (c *Cluster) setSynchronous(ctx context.Context, mode Sync, replicas []string) error {
	if err := c.open(); err != nil {
		return err
	}
	if err := mode.check(); err != nil {
		return err
	}
	primary := c.Primary()
	if primary == nil {
		return errors.New("the cluster has no primary: promote a replica")
	}
	if primary.runState() == Frozen {
		return primary.needRunning()
	}
	running := primary.runState() == Running
	if running && c.state().Upstream != primary.name {
		if err := c.follow(ctx, primary); err != nil {
			return err
		}
	}
	s, err := c.update(ctx, func(s *state) error {
		if err := s.checkSync(mode, replicas); err != nil {
			return err
		}
		s.Sync, s.SyncNodes = mode, replicas
		entry, err := s.node(primary.name)
		if err != nil {
			return err
		}
		entry.SyncStandbys = c.syncStandbys(s, primary, func(*Node) bool { return true })
		return primary.writeConf(s, false)
	})
	if err != nil || !running {
		return err
	}
	return primary.applySync(ctx, s)
}

// checkSync refuses names that are not a physical node's.
func (s *state) checkSync(mode Sync, names []string) error {
	if mode == SyncOff && len(names) > 0 {
		return errors.New("synchronous replicas are named but the mode is off: name none")
	}
	for _, name := range names {
		entry, err := s.node(name)
		if err != nil {
			return err
		}
		if entry.Subscriber != nil {
			return fmt.Errorf("%s is a subscriber: name replicas", name)
		}
	}
	return nil
}

// wantsSync reports whether commits are to wait for the node when it is a
// replica.
func (s *state) wantsSync(name string) bool {
	return s.Sync != SyncOff && (len(s.SyncNodes) == 0 || slices.Contains(s.SyncNodes, name))
}

// syncStandbys lists whom commits on the primary are to wait for, among the
// replicas that pass.
func (c *Cluster) syncStandbys(s *state, primary *Node, pass func(*Node) bool) []string {
	var names []string
	for _, n := range c.Replicas() {
		if n != primary && s.wantsSync(n.name) && pass(n) {
			names = append(names, n.name)
		}
	}
	return names
}

// syncSettings are the settings that make a node, as the primary, wait for its
// replicas. They win over those of [Options.Settings].
func syncSettings(s *state, n *nodeState) (standbys, commit string) {
	if len(n.SyncStandbys) > 0 {
		standbys = fmt.Sprintf("FIRST %d (%s)", len(n.SyncStandbys), strings.Join(n.SyncStandbys, ", "))
	}
	return standbys, string(s.Sync)
}

// applySync makes a running primary read its settings and returns once they
// are in force and the replicas that can be are synchronous.
func (n *Node) applySync(ctx context.Context, s *state) error {
	entry, err := s.node(n.name)
	if err != nil {
		return err
	}
	if err := n.takeSync(ctx, s); err != nil {
		return err
	}
	if s.Sync == SyncOff && s.setting(settingSyncStandbys) != "" {
		return nil // the settings say who is synchronous now
	}
	return n.awaitSync(ctx, n.c.reachable(s, entry.SyncStandbys), entry.SyncStandbys)
}

// takeSync makes a running node read its settings and returns once they are in
// force for every session.
func (n *Node) takeSync(ctx context.Context, s *state) error {
	entry, err := s.node(n.name)
	if err != nil {
		return err
	}
	if err := n.reload(); err != nil {
		return err
	}
	standbys, commit := syncSettings(s, entry)
	if s.Sync == SyncOff {
		standbys = s.setting(settingSyncStandbys)
	}
	// Whatever a new connection shows, the postmaster that made it has told
	// all its other children before.
	var gotStandbys, gotCommit string
	if err := poll(ctx, pollInterval, func() (bool, error) {
		err := n.withConn(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "select current_setting('synchronous_standby_names'), current_setting('synchronous_commit')").Scan(&gotStandbys, &gotCommit)
		})
		return gotStandbys == standbys && (gotCommit == commit || s.Sync == SyncOff), err
	}); err != nil {
		return fmt.Errorf("%s has %s '%s' and %s %s, want '%s' and %s: %w", n.name,
			settingSyncStandbys, gotStandbys, settingSyncCommit, gotCommit, standbys, orElse(commit, "any"), err)
	}
	if s.Sync == SyncOff {
		return nil
	}
	// Sessions learn from the checkpointer whether there are synchronous
	// replicas at all; it reads its settings before it begins a checkpoint.
	return n.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "checkpoint")
		return err
	})
}

// setting returns what [Options.Settings] say.
func (s *state) setting(name string) string {
	for given, value := range s.Settings {
		if strings.EqualFold(given, name) {
			return value
		}
	}
	return ""
}

// reachable returns those of the named replicas that stream, or will shortly.
func (c *Cluster) reachable(s *state, names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		n, err := c.Node(name)
		return err != nil || !n.streams(s)
	})
}

// streams reports whether nothing the lab knows of keeps a replica from
// streaming from a running primary.
func (n *Node) streams(s *state) bool {
	entry, err := s.node(n.name)
	return err == nil && n.standby() && !entry.Cut && n.runState() == Running
}

// awaitSync returns once the primary n calls the wanted replicas synchronous,
// and nobody else who is not allowed to be.
func (n *Node) awaitSync(ctx context.Context, wanted, allowed []string) error {
	var wrong []string
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		return poll(ctx, pollInterval, func() (bool, error) {
			var text string
			if err := conn.QueryRow(ctx, "select "+syncStates).Scan(&text); err != nil {
				return false, err
			}
			states := readSyncStates(text)
			wrong = nil
			for _, name := range wanted {
				if states[name] != "sync" {
					wrong = append(wrong, name+": "+orElse(states[name], "not connected")+", want sync")
				}
			}
			for name, state := range states {
				if state != "async" && !slices.Contains(allowed, name) {
					wrong = append(wrong, name+": "+state+", want async")
				}
			}
			return len(wrong) == 0, nil
		})
	})
	if err != nil && len(wrong) > 0 {
		return fmt.Errorf("%s says of %s: %w", n.name, strings.Join(wrong, ", of "), err)
	}
	return err
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// syncStates is a primary's verdict on each replica, as a JSON object by name.
const syncStates = `(select coalesce(json_object_agg(application_name, sync_state), '{}')::text from pg_stat_replication)`

func readSyncStates(text string) map[string]string {
	var states map[string]string
	json.Unmarshal([]byte(text), &states) // the server's own JSON
	return states
}
