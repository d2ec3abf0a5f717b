package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// SetApplyDelay makes a replica apply each commit d after the primary made it,
// to the millisecond; zero ends the delay. What the replica has received and
// holds back already is delayed too. It works on the running server and
// returns once the server has taken it; on a stopped one it counts from the
// next start. A promotion ends the delay. PostgreSQL has none for subscribers.
func (n *Node) SetApplyDelay(ctx context.Context, d time.Duration) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.needStandby(); err != nil {
		return fmt.Errorf("set apply delay: %w", err)
	}
	if d < 0 || d.Milliseconds() > math.MaxInt32 {
		return fmt.Errorf("set apply delay of %s: %s is not between 0 and 24 days", n.name, d)
	}
	running, err := n.reconfigure(ctx, func(entry *nodeState) { entry.ApplyDelay = d })
	if err == nil && running {
		err = n.withConn(ctx, func(conn *pgx.Conn) error {
			return poll(ctx, pollInterval, func() (bool, error) {
				var ms int64
				err := conn.QueryRow(ctx, "select setting::bigint from pg_settings where name = 'recovery_min_apply_delay'").Scan(&ms)
				return ms == d.Milliseconds(), err
			})
		})
	}
	if err != nil {
		return fmt.Errorf("set apply delay of %s: %w", n.name, err)
	}
	n.c.logf("%s applies with a delay of %s", n.name, d)
	return nil
}

// PauseReplay stops a replica from applying; it still receives. It returns
// once nothing more is applied. A delayed replica only pauses when its next
// commit is due, so end a long delay first. A restart ends the pause.
//
// A subscriber receives and applies in one: its subscription is disabled, as
// by [Node.Cut], and stays so over restarts.
func (n *Node) PauseReplay(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if n.subscriber {
		return n.setSubscription(ctx, "pause replay", func(entry *nodeState) { entry.Subscriber.Paused = true })
	}
	if err := n.needStandby(); err != nil {
		return fmt.Errorf("pause replay: %w", err)
	}
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "select pg_wal_replay_pause()"); err != nil {
			return err
		}
		return poll(ctx, pollInterval, func() (bool, error) {
			var state string
			err := conn.QueryRow(ctx, "select pg_get_wal_replay_pause_state()").Scan(&state)
			return state == "paused", err
		})
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("asked for, not reached (an apply delay puts it off): %w", err)
	}
	if err != nil {
		return fmt.Errorf("pause replay of %s: %w", n.name, err)
	}
	n.c.logf("%s paused replay", n.name)
	return nil
}

// ResumeReplay lets a paused replica apply again.
func (n *Node) ResumeReplay(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if n.subscriber {
		return n.setSubscription(ctx, "resume replay", func(entry *nodeState) { entry.Subscriber.Paused = false })
	}
	if err := n.needStandby(); err != nil {
		return fmt.Errorf("resume replay: %w", err)
	}
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_wal_replay_resume()")
		return err
	})
	if err != nil {
		return fmt.Errorf("resume replay of %s: %w", n.name, err)
	}
	n.c.logf("%s resumed replay", n.name)
	return nil
}

// Cut severs a replica's replication link: it receives nothing more, applies
// what it has and answers queries. It returns once the receiver is gone. The
// link stays cut over restarts and promotions until [Node.Heal]. A subscriber,
// which has to run, disables its subscription.
func (n *Node) Cut(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if n.subscriber {
		return n.setSubscription(ctx, "cut", func(entry *nodeState) { entry.Cut = true })
	}
	if err := n.needStandby(); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	running, err := n.reconfigure(ctx, func(entry *nodeState) { entry.Cut = true })
	if err == nil && running {
		err = n.withConn(ctx, func(conn *pgx.Conn) error {
			return poll(ctx, pollInterval, func() (bool, error) {
				r, err := readReceiver(ctx, conn)
				return !r.present, err
			})
		})
	}
	if err != nil {
		return fmt.Errorf("cut %s: %w", n.name, err)
	}
	n.c.logf("cut the replication link of %s", n.name)
	return nil
}

// Heal restores the link that Cut severed and returns once the replica streams
// again. If the replica or its primary is not running, the link is restored
// for when they are and Heal returns at once.
func (n *Node) Heal(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if n.subscriber {
		return n.setSubscription(ctx, "heal", func(entry *nodeState) { entry.Cut = false })
	}
	if err := n.needStandby(); err != nil {
		return fmt.Errorf("heal: %w", err)
	}
	running, err := n.reconfigure(ctx, func(entry *nodeState) { entry.Cut = false })
	if err == nil && running {
		err = n.connected(ctx)
	}
	if err != nil {
		return fmt.Errorf("heal %s: %w", n.name, err)
	}
	n.c.logf("healed the replication link of %s", n.name)
	return nil
}

// reconfigure changes the node's entry and tells the server, if it runs. A
// frozen one could not obey.
func (n *Node) reconfigure(ctx context.Context, change func(*nodeState)) (running bool, err error) {
	runState := n.runState()
	if runState == Frozen {
		return false, n.needRunning()
	}
	_, err = n.c.update(ctx, func(s *state) error {
		entry, err := s.node(n.name)
		if err != nil {
			return err
		}
		change(entry)
		// Under the lock, so that the file never shows an older state.
		return n.writeConf(s, false)
	})
	if err != nil || runState == Stopped {
		return false, err
	}
	return true, n.reload()
}

// reload makes a running server read its configuration again. A frozen one
// does so when it is thawed.
func (n *Node) reload() error {
	p, ok := n.postmaster()
	if !ok {
		return nil
	}
	return signalProcess(p.pid, syscall.SIGHUP)
}

// connected returns once the node streams, if it is to and can, and commits
// wait for it, if they are to.
func (n *Node) connected(ctx context.Context) error {
	if n.subscriber {
		return n.awaitSubscription(ctx)
	}
	if err := n.awaitLink(ctx); err != nil {
		return err
	}
	return n.enlist(ctx)
}

// awaitLink returns once a replica streams, if it is to and can.
func (n *Node) awaitLink(ctx context.Context) error {
	s := n.c.state()
	entry, err := s.node(n.name)
	if err != nil || entry.Cut || !n.standby() {
		return err
	}
	upstream, err := n.c.Node(s.Upstream)
	if err != nil || upstream == n || upstream.runState() != Running {
		return err
	}
	err = n.withConn(ctx, func(conn *pgx.Conn) error {
		return poll(ctx, pollInterval, func() (bool, error) {
			// What is left of an older timeline ends at once.
			r, err := readReceiver(ctx, conn)
			return r.streaming && r.timeline == upstream.timeline(), err
		})
	})
	if err != nil {
		return withLog(fmt.Errorf("%s does not stream from %s: %w", n.name, upstream.name, err), n.logTail())
	}
	return nil
}

// receiver is what a replica says of its WAL receiver.
type receiver struct {
	present, streaming bool
	timeline           uint32
}

func readReceiver(ctx context.Context, conn *pgx.Conn) (r receiver, err error) {
	var status string
	err = conn.QueryRow(ctx, "select status, received_tli from pg_stat_wal_receiver").Scan(&status, &r.timeline)
	if errors.Is(err, pgx.ErrNoRows) {
		return receiver{}, nil
	}
	r.present, r.streaming = err == nil, status == "streaming"
	return r, err
}
