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

// WaitCaughtUp returns once every replica and subscriber that is not stopped has
// applied all that the primary had written when the call began, and streams
// from it. One that is frozen, paused, delayed or cut makes it fail at the
// deadline with an error that names the node and how far behind it is. A
// subscriber that a promotion left behind makes it fail at once.
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
	followers := append(c.Replicas(), c.Subscribers()...)
	return inParallel(followers, func(n *Node) error {
		if n.runState() == Stopped {
			return nil
		}
		seen := replay{position: -1}
		if n.subscriber {
			if err := n.awaitApplied(ctx, primary, target, &seen); err != nil {
				return fmt.Errorf("wait until %s has caught up: %w", n.name, err)
			}
			return nil
		}
		if position, ok := known[n.name]; ok {
			seen.position = position
		}
		if err := n.awaitReplay(ctx, target, timeline, &seen); err != nil {
			return fmt.Errorf("wait until %s has caught up: %s: %w", n.name, n.whyBehind(target, seen), err)
		}
		return nil
	})
}

// replay is how far a node was when last seen.
type replay struct {
	position int64 // -1 if never seen
	paused   bool
	copying  int // tables of a subscriber
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

// awaitApplied is awaitReplay for a subscriber.
func (n *Node) awaitApplied(ctx context.Context, primary *Node, target int64, seen *replay) error {
	entry, err := n.subscriberEntry(n.c.state())
	if err != nil {
		return err
	}
	if sub := entry.Subscriber; sub.Source != primary.name {
		return fmt.Errorf("it reads from %s, and %s is the primary: resubscribe it", sub.Source, primary.name)
	}
	err = poll(ctx, pollInterval, func() (bool, error) { return n.runState() != Frozen, nil })
	if err == nil {
		err = primary.withConn(ctx, func(onPrimary *pgx.Conn) error {
			return n.withApplication(ctx, func(conn *pgx.Conn) error {
				return poll(ctx, pollInterval, func() (bool, error) {
					p, err := readProgress(ctx, conn, entry.Subscriber.Subscription)
					if err != nil {
						return false, err
					}
					if p.position < target {
						confirmed, err := confirmedPosition(ctx, onPrimary, entry.Subscriber.Subscription)
						if err != nil {
							return false, err
						}
						p.position = max(p.position, confirmed)
					}
					seen.position, seen.copying = p.position, p.copying
					return p.position >= target && p.streaming && p.copying == 0, nil
				})
			})
		})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.whyBehind(target, *seen), err)
	}
	return nil
}

// confirmedPosition is what a subscriber has told the primary: it reports a
// position only after everything before it is applied, and also where its own
// view of it stands still.
func confirmedPosition(ctx context.Context, onPrimary *pgx.Conn, slot string) (position int64, err error) {
	err = onPrimary.QueryRow(ctx, `select coalesce(max((r.write_lsn - '0/0')::bigint), 0)
		from pg_stat_replication as r join pg_replication_slots as s on s.active_pid = r.pid where s.slot_name = $1`, slot).Scan(&position)
	return position, err
}

// whyBehind says how far behind a node is and what the lab did to it.
func (n *Node) whyBehind(target int64, seen replay) string {
	text := "its position is unknown"
	switch {
	case seen.copying > 0:
		text = fmt.Sprintf("%d of its tables are still being copied", seen.copying)
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
		if entry.Subscriber != nil && entry.Subscriber.Paused {
			causes = append(causes, "paused")
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
