package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Roles of a node.
const (
	RolePrimary    = "primary"
	RoleReplica    = "replica"
	RoleSubscriber = "subscriber"
)

// statusTimeout is how long Status waits for one server's answer.
const statusTimeout = 2 * time.Second

// Status is what a cluster's servers and their processes say of themselves.
type Status struct {
	Dir      string       `json:"dir"`
	Version  string       `json:"version"`
	Sync     Sync         `json:"synchronous,omitempty"` // what commits wait for
	SystemID string       `json:"system_id"`             // empty if no server answers
	Detached bool         `json:"detached"`
	OwnerPID int          `json:"owner_pid,omitempty"` // the process the servers die with
	Nodes    []NodeStatus `json:"nodes"`
}

// NodeStatus is one node of a [Status].
type NodeStatus struct {
	Name string `json:"name"`
	Port int    `json:"port"`

	// Role is primary, replica or subscriber. A running server was asked; for
	// a stopped or frozen one it is what its folder says it will be.
	Role    string   `json:"role"`
	State   RunState `json:"state"`
	PID     int      `json:"pid,omitempty"`
	Version string   `json:"version"`

	// Awaited says that commits on the primary wait for this replica, be it
	// there or not; SyncState is what the primary says of it: sync or async,
	// or empty if it is not connected or the primary does not answer.
	Awaited   bool   `json:"awaited,omitempty"`
	SyncState string `json:"sync_state,omitempty"`

	// Source is the node that a subscriber reads from: not the primary any
	// more after a promotion, until [Node.Resubscribe].
	Source string `json:"source,omitempty"`

	// Error says why a running server did not answer. Then, as when it is not
	// running, nothing below is known.
	Error string `json:"error,omitempty"`

	// Timeline is that of the position; a subscriber does not know it.
	Timeline uint32 `json:"timeline,omitempty"`
	// Position is what a primary has written or a replica has applied, as an
	// LSN; Received is what a replica has received. A subscriber's are in the
	// WAL of its source. If that is a PostgreSQL 14, they may stand still for up
	// to half a minute after changes that are not published;
	// [Cluster.WaitCaughtUp] sees through that.
	Position string `json:"position,omitempty"`
	Received string `json:"received,omitempty"`
	// BytesBehind is how much of the primary's WAL the node has not applied,
	// or -1 if that is not known, as on another timeline or from another
	// source.
	BytesBehind int64 `json:"bytes_behind"`

	ApplyDelayMS int64 `json:"apply_delay_ms"`
	Paused       bool  `json:"paused"`
	Cut          bool  `json:"cut"`
	Streaming    bool  `json:"streaming"`
}

const statusQuery = `select r, case when r then 'replica' else 'primary' end,
	coalesce(case when r then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end, '0/0')::text,
	coalesce(case when r then pg_last_wal_receive_lsn() end::text, ''),
	case when r then coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0) else ` + insertPosition + ` end,
	case when r then coalesce((select received_tli from pg_stat_wal_receiver),
			nullif((select min_recovery_end_timeline from pg_control_recovery()), 0),
			(select timeline_id from pg_control_checkpoint()))
		else ` + primaryTimeline + ` end,
	(select setting::bigint from pg_settings where name = 'recovery_min_apply_delay'),
	case when r then pg_get_wal_replay_pause_state() = 'paused' else false end,
	exists (select from pg_stat_wal_receiver where status = 'streaming'),
	(select system_identifier::text from pg_control_system()),
	` + syncStates + `
from (select pg_is_in_recovery() as r) as node`

// Status asks every node at the same time. A server that does not answer
// within two seconds, or before ctx ends, is reported as such and is no error.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	if err := c.open(); err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}
	s := c.state()
	nodes := c.Nodes()
	status := Status{Dir: c.dir, Version: s.Version, Sync: s.Sync, Detached: s.Detached, OwnerPID: s.OwnerPID, Nodes: make([]NodeStatus, len(nodes))}
	answers := make([]answer, len(nodes))
	index := make([]int, len(nodes))
	for i := range index {
		index[i] = i
	}
	err := inParallel(index, func(i int) error {
		status.Nodes[i], answers[i] = nodes[i].status(ctx, s)
		return nil
	})
	primary, now := -1, c.Primary()
	for i, n := range nodes {
		if n == now && answers[i].known {
			primary = i
		}
		if status.SystemID == "" {
			status.SystemID = answers[i].systemID
		}
	}
	for i := range nodes {
		st := &status.Nodes[i]
		st.BytesBehind = -1
		if now != nil && st.Role == RoleReplica {
			entry, err := s.node(now.name)
			st.Awaited = err == nil && slices.Contains(entry.SyncStandbys, st.Name)
		}
		if primary < 0 {
			continue
		}
		if st.Role == RoleReplica {
			st.SyncState = answers[primary].syncStates[st.Name]
		}
		// Positions on two timelines say nothing about each other.
		if answers[i].known && (st.Timeline == status.Nodes[primary].Timeline || st.Source == now.name) {
			st.BytesBehind = max(0, answers[primary].position-answers[i].position)
		}
	}
	return status, err
}

// answer is what a server says that makes sense beside the others' answers.
type answer struct {
	known      bool // the position is
	position   int64
	systemID   string // of physical nodes
	syncStates map[string]string
}

func (n *Node) status(ctx context.Context, s *state) (st NodeStatus, a answer) {
	st = NodeStatus{Name: n.name, Port: n.port, Role: n.Role(), State: n.runState(), Version: s.Version}
	if p, ok := n.postmaster(); ok {
		st.PID = p.pid
	}
	subscription := ""
	if entry, err := s.node(n.name); err == nil {
		st.Cut, st.ApplyDelayMS = entry.Cut, entry.ApplyDelay.Milliseconds()
		if sub := entry.Subscriber; sub != nil {
			st.Version, st.Source, st.Paused, subscription = sub.Version, sub.Source, sub.Paused, sub.Subscription
		}
	}
	if st.State != Running {
		return st, answer{}
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var err error
	if n.subscriber {
		err = n.withApplication(ctx, func(conn *pgx.Conn) error {
			p, err := readProgress(ctx, conn, subscription)
			a.known, a.position = p.position > 0, p.position
			st.Received, st.Streaming = p.received, p.streaming
			if a.known {
				st.Position = p.text
			}
			return err
		})
	} else {
		err = n.withConn(ctx, func(conn *pgx.Conn) error {
			var inRecovery bool
			var syncStates string
			err := conn.QueryRow(ctx, statusQuery).Scan(&inRecovery, &st.Role, &st.Position, &st.Received, &a.position,
				&st.Timeline, &st.ApplyDelayMS, &st.Paused, &st.Streaming, &a.systemID, &syncStates)
			a.known, a.syncStates = err == nil, readSyncStates(syncStates)
			return err
		})
	}
	if err != nil {
		st.Error = err.Error()
		return st, answer{}
	}
	return st, a
}
