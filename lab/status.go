package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Roles of a node in [NodeStatus].
const (
	RolePrimary = "primary"
	RoleReplica = "replica"
)

// statusTimeout is how long Status waits for one server's answer.
const statusTimeout = 2 * time.Second

// Status is what a cluster's servers and their processes say of themselves.
type Status struct {
	Dir      string       `json:"dir"`
	Version  string       `json:"version"`
	SystemID string       `json:"system_id"` // empty if no server answers
	Detached bool         `json:"detached"`
	OwnerPID int          `json:"owner_pid,omitempty"` // the process the servers die with
	Nodes    []NodeStatus `json:"nodes"`
}

// NodeStatus is one node of a [Status].
type NodeStatus struct {
	Name string `json:"name"`
	Port int    `json:"port"`

	// Role is primary or replica. A running server was asked; for a stopped
	// or frozen one it is what its folder says it will be.
	Role  string   `json:"role"`
	State RunState `json:"state"`
	PID   int      `json:"pid,omitempty"`

	// Error says why a running server did not answer. Then, as when it is not
	// running, nothing below is known.
	Error string `json:"error,omitempty"`

	Timeline uint32 `json:"timeline,omitempty"`
	// Position is what a primary has written or a replica has applied, as an
	// LSN; Received is what a replica has received.
	Position string `json:"position,omitempty"`
	Received string `json:"received,omitempty"`
	// BytesBehind is how much of the primary's WAL the node has not applied,
	// or -1 if that is not known, as on another timeline.
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
	(select system_identifier::text from pg_control_system())
from (select pg_is_in_recovery() as r) as node`

// Status asks every node at the same time. A server that does not answer
// within two seconds, or before ctx ends, is reported as such and is no error.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	if err := c.open(); err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}
	s := c.state()
	nodes := c.Nodes()
	status := Status{Dir: c.dir, Version: s.Version, Detached: s.Detached, OwnerPID: s.OwnerPID, Nodes: make([]NodeStatus, len(nodes))}
	positions := make([]int64, len(nodes))
	systemIDs := make([]string, len(nodes))
	index := make([]int, len(nodes))
	for i := range index {
		index[i] = i
	}
	err := inParallel(index, func(i int) error {
		status.Nodes[i], positions[i], systemIDs[i] = nodes[i].status(ctx, s)
		return nil
	})
	primary, now := -1, c.Primary()
	for i, n := range nodes {
		if n == now && positions[i] >= 0 {
			primary = i
		}
		if status.SystemID == "" {
			status.SystemID = systemIDs[i]
		}
	}
	for i := range nodes {
		st := &status.Nodes[i]
		st.BytesBehind = -1
		// Positions on two timelines say nothing about each other.
		if primary >= 0 && positions[i] >= 0 && st.Timeline == status.Nodes[primary].Timeline {
			st.BytesBehind = max(0, positions[primary]-positions[i])
		}
	}
	return status, err
}

func (n *Node) status(ctx context.Context, s *state) (st NodeStatus, position int64, systemID string) {
	st = NodeStatus{Name: n.name, Port: n.port, Role: RolePrimary, State: n.runState()}
	if n.standby() {
		st.Role = RoleReplica
	}
	if p, ok := n.postmaster(); ok {
		st.PID = p.pid
	}
	if entry, err := s.node(n.name); err == nil {
		st.Cut, st.ApplyDelayMS = entry.Cut, entry.ApplyDelay.Milliseconds()
	}
	if st.State != Running {
		return st, -1, ""
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		var inRecovery bool
		return conn.QueryRow(ctx, statusQuery).Scan(&inRecovery, &st.Role, &st.Position, &st.Received, &position,
			&st.Timeline, &st.ApplyDelayMS, &st.Paused, &st.Streaming, &systemID)
	})
	if err != nil {
		st.Error = err.Error()
		return st, -1, ""
	}
	return st, position, systemID
}
