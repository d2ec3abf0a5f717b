package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// insertPosition is the primary's position in words the replicas will use: an
// insert position just past a page header is reported by no replica until
// there is a record behind it, so it counts as the page's start.
const insertPosition = `(select p - case
		when p % segment = 40 then 40
		when p % page = 24 then 24
		else 0 end
	from (select (pg_current_wal_insert_lsn() - '0/0')::bigint as p,
		(select setting::bigint from pg_settings where name = 'wal_segment_size') as segment,
		(select setting::bigint from pg_settings where name = 'wal_block_size') as page) as w)`

const primaryTimeline = `('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint`

// WaitCaughtUp returns once every replica that is not stopped has applied all
// that the primary had written when the call began, and streams from it. A
// replica that is frozen, paused, delayed or cut makes it fail at the deadline
// with an error that names the replica and how far behind it is.
func (c *Cluster) WaitCaughtUp(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.open(); err != nil {
		return err
	}
	primary := c.Primary()
	if primary == nil {
		return errors.New("wait until caught up: the cluster has no primary: promote a replica")
	}
	var target int64
	var timeline uint32
	known := make(map[string]int64) // the replicas' positions as the primary knows them
	err := primary.withConn(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "select "+insertPosition+", "+primaryTimeline).Scan(&target, &timeline); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, "select application_name, (replay_lsn - '0/0')::bigint from pg_stat_replication where replay_lsn is not null")
		if err != nil {
			return err
		}
		var name string
		var replayed int64
		_, err = pgx.ForEachRow(rows, []any{&name, &replayed}, func() error {
			known[name] = replayed
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("wait until caught up: %w", err)
	}
	return inParallel(c.Replicas(), func(n *Node) error {
		if n.runState() == Stopped {
			return nil
		}
		seen := replay{position: -1}
		if position, ok := known[n.name]; ok {
			seen.position = position
		}
		if err := n.awaitReplay(ctx, target, timeline, &seen); err != nil {
			return fmt.Errorf("wait until %s has caught up: %s: %w", n.name, n.whyBehind(target, seen), err)
		}
		return nil
	})
}

// replay is how far a replica was when last seen.
type replay struct {
	position int64 // -1 if never seen
	paused   bool
}

// awaitReplay keeps what it saw last in seen.
func (n *Node) awaitReplay(ctx context.Context, target int64, timeline uint32, seen *replay) error {
	// A frozen replica may be thawed in time.
	if err := poll(ctx, pollInterval, func() (bool, error) { return n.runState() != Frozen, nil }); err != nil {
		return err
	}
	const query = `select coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0),
		pg_get_wal_replay_pause_state() <> 'not paused'`
	return n.withConn(ctx, func(conn *pgx.Conn) error {
		return poll(ctx, pollInterval, func() (bool, error) {
			var now replay
			if err := conn.QueryRow(ctx, query).Scan(&now.position, &now.paused); err != nil {
				return false, err
			}
			*seen = now
			if now.position < target {
				return false, nil
			}
			// A position on another timeline may hide lost or foreign WAL.
			r, err := readReceiver(ctx, conn)
			return r.streaming && r.timeline == timeline, err
		})
	})
}

// whyBehind says how far behind a replica is and what the lab did to it.
func (n *Node) whyBehind(target int64, seen replay) string {
	text := "its position is unknown"
	switch {
	case seen.position >= target:
		text = "it has the position but does not stream from the primary"
	case seen.position >= 0:
		text = fmt.Sprintf("it is %d bytes behind", target-seen.position)
	}
	var causes []string
	if n.runState() == Frozen {
		causes = append(causes, "frozen")
	}
	if seen.paused {
		causes = append(causes, "paused")
	}
	if entry, err := n.c.state().node(n.name); err == nil {
		if entry.Cut {
			causes = append(causes, "cut")
		}
		if entry.ApplyDelay > 0 {
			causes = append(causes, "delayed by "+entry.ApplyDelay.String())
		}
	}
	if len(causes) > 0 {
		text += " (" + strings.Join(causes, ", ") + ")"
	}
	return text
}
