package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// subscribe makes the subscription and returns once the tables are copied. The
// slot is returned if it is to be dropped again without us.
func (n *Node) subscribe(ctx context.Context, primary *Node) (slot string, err error) {
	s := n.c.state()
	entry, err := n.subscriberEntry(s)
	if err != nil {
		return "", err
	}
	sub := entry.Subscriber
	var taken bool
	err = primary.withConn(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select exists (select from pg_replication_slots where slot_name = $1)", sub.Subscription).Scan(&taken)
	})
	if err == nil && taken {
		err = fmt.Errorf("%s has a replication slot %s: drop it, or choose another name for the subscription", primary.name, sub.Subscription)
	}
	if err != nil {
		return "", err
	}
	conninfo := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable gssencmode=disable",
		loopback, primary.port, replicationRole, quoteConninfo(s.Database))
	if password := s.Passwords[replicationRole]; password != "" {
		conninfo += " password=" + password
	}
	create := fmt.Sprintf("create subscription %s connection %s publication %s",
		pgx.Identifier{sub.Subscription}.Sanitize(), quoteLiteral(conninfo), pgx.Identifier{sub.Publication}.Sanitize())
	err = n.withApplication(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, create); err != nil {
			return fmt.Errorf("subscribe to %s: %w", primary.name, err)
		}
		return n.awaitCopies(ctx, conn, sub.Subscription)
	})
	return sub.Subscription, err
}

// awaitCopies returns once every table of the subscription is copied and
// follows the primary.
func (n *Node) awaitCopies(ctx context.Context, conn *pgx.Conn, subscription string) error {
	var missing []string
	err := poll(ctx, pollInterval, func() (bool, error) {
		rows, err := conn.Query(ctx, `select r.srrelid::regclass::text from pg_subscription_rel as r
			join pg_subscription as s on s.oid = r.srsubid where s.subname = $1 and r.srsubstate <> 'r' order by 1`, subscription)
		if err != nil {
			return false, err
		}
		missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return len(missing) == 0, err
	})
	if err == nil {
		return n.awaitSubscription(ctx)
	}
	if len(missing) > 0 {
		err = fmt.Errorf("%s not copied yet: %w", strings.Join(missing, ", "), err)
	}
	return withLog(err, n.logTail())
}

// progress is what a subscriber says of its subscription.
type progress struct {
	position  int64  // in the primary's WAL, all up to which is applied; 0 if unknown
	text      string // the same, as an LSN
	received  string
	streaming bool
	copying   int // tables that do not follow yet
}

// readProgress takes the further of two positions: one moves with each applied
// transaction, the other with what the primary says it has nothing more of up
// to there. That is only said in order, after what was before has been applied.
// A worker that streams from an idle primary may not have received anything.
func readProgress(ctx context.Context, conn *pgx.Conn, subscription string) (p progress, err error) {
	err = conn.QueryRow(ctx, `select (lsn - '0/0')::bigint, lsn::text, coalesce(received::text, ''), streaming, copying
		from (select coalesce(greatest(o.remote_lsn, w.latest_end_lsn), '0/0') as lsn, w.received, coalesce(w.streaming, false) as streaming,
				(select count(*) from pg_subscription_rel as r where r.srsubid = s.oid and r.srsubstate <> 'r') as copying
			from pg_subscription as s
			left join pg_replication_origin_status as o on o.external_id = 'pg_' || s.oid
			left join lateral (select max(latest_end_lsn) as latest_end_lsn, max(received_lsn) as received,
					bool_or(received_lsn is not null or a.wait_event = 'LogicalApplyMain') as streaming
				from pg_stat_subscription join pg_stat_activity as a using (pid) where subid = s.oid and relid is null) as w on true
			where s.subname = $1) as p`, subscription).
		Scan(&p.position, &p.text, &p.received, &p.streaming, &p.copying)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("there is no subscription %s", subscription)
	}
	return p, err
}

// awaitSubscription returns once the subscription streams, if it is to and can.
func (n *Node) awaitSubscription(ctx context.Context) error {
	entry, err := n.subscriberEntry(n.c.state())
	if err != nil || !n.streamsFrom(entry) {
		return err
	}
	err = n.withApplication(ctx, func(conn *pgx.Conn) error {
		return poll(ctx, pollInterval, func() (bool, error) {
			p, err := readProgress(ctx, conn, entry.Subscriber.Subscription)
			return p.streaming, err
		})
	})
	if err != nil {
		return withLog(fmt.Errorf("%s does not stream from %s: %w", n.name, entry.Subscriber.Source, err), n.logTail())
	}
	return nil
}

// setSubscription changes what keeps the subscription from streaming, and
// returns once it streams or does not.
func (n *Node) setSubscription(ctx context.Context, verb string, change func(*nodeState)) error {
	if err := n.changeSubscription(ctx, change); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	n.c.logf("%s: %s done", n.name, verb)
	return nil
}

func (n *Node) changeSubscription(ctx context.Context, change func(*nodeState)) error {
	if err := n.needRunning(); err != nil {
		return err
	}
	s, err := n.c.update(ctx, func(s *state) error {
		entry, err := n.subscriberEntry(s)
		if err == nil {
			change(entry)
		}
		return err
	})
	if err != nil {
		return err
	}
	entry, err := n.subscriberEntry(s)
	if err != nil {
		return err
	}
	name := entry.Subscriber.Subscription
	enabled := !entry.Cut && !entry.Subscriber.Paused
	err = n.withApplication(ctx, func(conn *pgx.Conn) error {
		if enabled {
			_, err := conn.Exec(ctx, "alter subscription "+pgx.Identifier{name}.Sanitize()+" enable")
			return err
		}
		return disable(ctx, conn, name)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return n.awaitSubscription(ctx)
}

// disable returns once nothing is applied any more. A worker would notice by
// itself within a second, before it applies anything more.
func disable(ctx context.Context, conn *pgx.Conn, subscription string) error {
	if _, err := conn.Exec(ctx, "alter subscription "+pgx.Identifier{subscription}.Sanitize()+" disable"); err != nil {
		return err
	}
	return poll(ctx, pollInterval, func() (bool, error) {
		var workers int
		err := conn.QueryRow(ctx, "select count(pg_terminate_backend(pid)) from pg_stat_subscription where subname = $1 and pid is not null", subscription).Scan(&workers)
		return workers == 0, err
	})
}

func quoteLiteral(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func quoteConninfo(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
