package pgtidetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// replayed is how far a replica has applied, in bytes.
const replayed = "coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0)"

// lastAnswer is how long a server may take to answer after a wait is over.
const lastAnswer = 2 * time.Second

// inserted is the primary's position in words that replicas use: one just past
// the header of a page is reported by none until there is a record behind it, so
// it counts as the page's start. The second column is the timeline.
const inserted = `select p - case when p % segment = 40 then 40 when p % page = 24 then 24 else 0 end,
	('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
	from (select (pg_current_wal_insert_lsn() - '0/0')::bigint as p,
		(select setting::bigint from pg_settings where name = 'wal_segment_size') as segment,
		(select setting::bigint from pg_settings where name = 'wal_block_size') as page) as w`

// committed returns the position behind everything that is committed now. The
// servers are locked.
func (c *Tide) committed(ctx context.Context) (position, timeline int64, err error) {
	conn, err := c.servers.conn(ctx, c.source.Cluster().Primary)
	if err == nil {
		err = conn.QueryRow(ctx, inserted).Scan(&position, &timeline)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ask the primary for its position: %w", err)
	}
	return position, timeline, nil
}

// WaitReplicas waits until everything that has been committed, by whomever, is
// visible on every replica that has not been killed. It fails the test when ctx
// ends, or after half a minute, and says which replica is how far behind, and
// what the test did to it.
func (c *Tide) WaitReplicas(ctx context.Context) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	if err := c.awaitReplicas(ctx); err != nil {
		c.t.Fatalf("pgtidetest: wait for the replicas: %v", err)
	}
}

// awaitReplicas is WaitReplicas; the servers are locked.
func (c *Tide) awaitReplicas(ctx context.Context) error {
	replicas := c.source.Cluster().Replicas
	c.mu.Lock()
	promoted := c.promoted
	var waited []string
	for _, name := range replicas {
		if c.down[name] != killed {
			waited = append(waited, name)
		}
	}
	c.mu.Unlock()
	// What is asked at the last moment is still answered, so that the error can
	// say how far behind a replica is.
	deadline, _ := ctx.Deadline() // there always is one
	ask, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(lastAnswer))
	defer cancel()
	target, timeline, err := c.committed(ask)
	if err != nil {
		return err
	}
	results := make(chan error, len(waited))
	for _, name := range waited {
		open := c.servers.conns[name]
		go func() {
			conn, err := open, error(nil)
			if conn == nil || conn.IsClosed() {
				if conn, err = c.servers.open(ask, name); err == nil {
					defer conn.Close(ask)
				}
			}
			at := int64(-1)
			if err == nil {
				err = until(ctx, func() (bool, error) { return caughtUp(ask, conn, target, timeline, promoted, &at) })
			}
			if err != nil {
				err = fmt.Errorf("%s %s: %w", name, c.whyBehind(name, target, at), err)
			}
			results <- err
		}()
	}
	var errs []error
	for range waited {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// caughtUp also looks at the timeline once it has changed: a position on another
// one proves nothing.
func caughtUp(ctx context.Context, conn *pgx.Conn, target, timeline int64, promoted bool, at *int64) (bool, error) {
	if err := conn.QueryRow(ctx, "select "+replayed).Scan(at); err != nil || *at < target {
		return false, err
	}
	if !promoted {
		return true, nil
	}
	var follows bool
	err := conn.QueryRow(ctx, "select exists (select from pg_stat_wal_receiver where received_tli = $1)", timeline).Scan(&follows)
	return follows, err
}

// whyBehind says how far behind a replica is and what the test did to it.
func (c *Tide) whyBehind(name string, target, at int64) string {
	text := "does not answer"
	switch {
	case at >= target:
		text = "has the position but does not follow the primary"
	case at >= 0:
		text = fmt.Sprintf("is %d bytes behind", target-at)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var why []string
	for _, w := range []string{c.lag[name], c.down[name]} {
		if w != "" {
			why = append(why, w)
		}
	}
	if len(why) > 0 {
		text += " (" + strings.Join(why, ", ") + ")"
	}
	return text
}
