package pgtidetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// pollInterval is how often a server is asked for a state that it does not
// announce.
const pollInterval = time.Millisecond

// Freeze keeps the named replicas, or without names all of them, from applying
// anything more until [Tide.Thaw], [Tide.Delay] or the end of the test. They
// still receive and answer. It returns once nothing more is applied. A restart of
// the server ends it.
func (c *Tide) Freeze(replicas ...string) {
	c.t.Helper()
	c.holdBack("freeze", "frozen by Freeze", replicas, freeze)
}

// Thaw ends what Freeze and [Tide.Delay] began. It does not wait until the
// replicas have caught up: that is [Tide.WaitReplicas].
func (c *Tide) Thaw(replicas ...string) {
	c.t.Helper()
	c.holdBack("thaw", "", replicas, func(ctx context.Context, conn *pgx.Conn) error {
		return errors.Join(setDelay(ctx, conn, 0), resume(ctx, conn))
	})
}

// Delay makes the named replicas, or without names all of them, apply each commit
// d after the primary made it, to the millisecond, in place of a Freeze. It stays
// over a restart of the server. Zero is [Tide.Thaw].
func (c *Tide) Delay(d time.Duration, replicas ...string) {
	c.t.Helper()
	c.holdBack("delay", delayed+d.String(), replicas, func(ctx context.Context, conn *pgx.Conn) error {
		return errors.Join(setDelay(ctx, conn, d), resume(ctx, conn))
	})
}

// Step lets the named replicas, or without names all of them, apply what has been
// committed before the call, and freezes them again, or for the first time. What
// is committed while Step runs may be let through too.
func (c *Tide) Step(replicas ...string) {
	c.t.Helper()
	var target int64
	c.holdBack("step", "frozen since Step", replicas, func(ctx context.Context, conn *pgx.Conn) error {
		if err := errors.Join(freeze(ctx, conn), resume(ctx, conn)); err != nil {
			return err
		}
		var at int64
		err := until(ctx, func() (bool, error) {
			err := conn.QueryRow(ctx, "select "+replayed).Scan(&at)
			return at >= target, err
		})
		if err != nil {
			return fmt.Errorf("it is %d bytes short of what was committed: %w", target-at, err)
		}
		return freeze(ctx, conn)
	}, func(ctx context.Context) (err error) {
		target, _, err = c.committed(ctx)
		return err
	})
}

// holdBack does the same to several replicas at once, after what has to be first.
func (c *Tide) holdBack(verb, state string, replicas []string, do func(context.Context, *pgx.Conn) error, first ...func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	done, err := c.onReplicas(ctx, replicas, do, first...)
	if err != nil {
		c.t.Fatalf("pgtidetest: %s: %v", verb, c.explain(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range done {
		c.lag[name] = state
	}
}

// onReplicas returns the replicas that were meant.
func (c *Tide) onReplicas(ctx context.Context, replicas []string, do func(context.Context, *pgx.Conn) error, first ...func(context.Context) error) ([]string, error) {
	if e, ok := c.source.(*existing); ok && e.shared {
		return nil, errors.New("Options.Shared lets other tests use the cluster at the same time: leave it unset to have lag on demand")
	}
	all := c.source.Cluster().Replicas
	for _, name := range replicas {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%q is not a replica: the replicas are %s", name, strings.Join(all, ", "))
		}
	}
	if len(replicas) == 0 {
		replicas = c.running(all)
	}
	if len(replicas) == 0 {
		return nil, errors.New("there is no replica")
	}
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	for _, f := range first {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	conns := make([]*pgx.Conn, len(replicas))
	for i, name := range replicas {
		conn, err := c.servers.conn(ctx, name)
		if err != nil {
			return nil, err
		}
		conns[i] = conn
	}
	results := make(chan error, len(replicas))
	for i, conn := range conns {
		go func() {
			if err := do(ctx, conn); err != nil {
				results <- fmt.Errorf("%s: %w", replicas[i], err)
				return
			}
			results <- nil
		}()
	}
	var errs []error
	for range conns {
		errs = append(errs, <-results)
	}
	return replicas, errors.Join(errs...)
}

// running leaves out the nodes that do not answer because of the test.
func (c *Tide) running(nodes []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(nodes), func(name string) bool { return c.down[name] == killed || c.down[name] == frozen })
}

// freeze ends a delay too, without letting through what it held back: a replica
// that waits for a commit's time looks for a pause before it applies it.
func freeze(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "select pg_wal_replay_pause()"); err != nil {
		return err
	}
	if err := setDelay(ctx, conn, 0); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		var paused bool
		err := conn.QueryRow(ctx, "select pg_get_wal_replay_pause_state() = 'paused'").Scan(&paused)
		return paused, err
	})
}

func resume(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "select pg_wal_replay_resume()")
	return err
}

// setDelay changes nothing, and needs no rights, if the delay is so already.
func setDelay(ctx context.Context, conn *pgx.Conn, d time.Duration) error {
	const current = "select setting::bigint from pg_settings where name = 'recovery_min_apply_delay'"
	var ms int64
	if err := conn.QueryRow(ctx, current).Scan(&ms); err != nil || ms == d.Milliseconds() {
		return err
	}
	change := fmt.Sprintf("alter system set recovery_min_apply_delay = '%dms'", d.Milliseconds())
	if d == 0 {
		change = "alter system reset recovery_min_apply_delay"
	}
	if _, err := conn.Exec(ctx, change); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_reload_conf()"); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		err := conn.QueryRow(ctx, current).Scan(&ms)
		return ms == d.Milliseconds(), err
	})
}

// until polls for a state of a server, which sends no signal.
func until(ctx context.Context, ok func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
