package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Promote makes a replica the primary and returns once it takes writes and the
// other replicas have been told to follow it. Whether they can, tells
// WaitCaughtUp: one that was ahead of the new primary needs [Node.Rejoin]. With
// synchronous replicas the first commit already waits for them, see
// [Cluster.SetSynchronous].
//
// The old primary is left as it is. If it still runs there are two servers
// that take writes, a split brain, which is what some tests want; stop or kill
// it before, or rejoin it after. Promoting a node that is a primary already
// only makes the replicas follow it, for a promotion done with SQL.
//
// Subscribers stay with the old primary, which has their slots, until
// [Node.Resubscribe].
func (c *Cluster) Promote(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	n, err := c.Node(name)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if n.subscriber {
		return fmt.Errorf("promote %s: it is a subscriber, a server of its own that takes writes already", name)
	}
	began := time.Now()
	if err := n.succeed(ctx); err != nil {
		return fmt.Errorf("promote %s: %w", name, withLog(err, n.logTail()))
	}
	err = n.withConn(ctx, func(conn *pgx.Conn) error {
		inRecovery := true
		if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&inRecovery); err != nil || !inRecovery {
			return err
		}
		if _, err := conn.Exec(ctx, "select pg_promote(false)"); err != nil {
			return err
		}
		return poll(ctx, pollInterval, func() (bool, error) {
			err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&inRecovery)
			return !inRecovery, err
		})
	})
	if err == nil {
		err = c.follow(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("promote %s: %w", name, withLog(err, n.logTail()))
	}
	c.logf("promoted %s in %d ms", name, time.Since(began).Milliseconds())
	return nil
}

// follow points every replica at the primary. Cut links stay cut.
func (c *Cluster) follow(ctx context.Context, primary *Node) error {
	replicas := c.Replicas()
	unprepared := false // promoted with SQL
	s, err := c.update(ctx, func(s *state) error {
		entry, err := s.node(primary.name)
		if err != nil {
			return err
		}
		entry.Cut, entry.ApplyDelay = false, 0
		news := s.Upstream != primary.name
		s.Upstream = primary.name
		if news && s.Sync != SyncOff {
			known := slices.Clone(entry.SyncStandbys)
			if err := primary.inherit(s); err != nil {
				return err
			}
			unprepared = !slices.Equal(known, entry.SyncStandbys)
		}
		for _, n := range replicas {
			if err := n.writeConf(s, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range replicas {
		if err := n.reload(); err != nil {
			errs = append(errs, fmt.Errorf("reload %s: %w", n.name, err))
		}
	}
	if unprepared {
		errs = append(errs, primary.takeSync(ctx, s))
	}
	return errors.Join(errs...)
}
