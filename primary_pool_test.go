package pgtide_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestPrimaryPoolCountsWrites(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{MaxStaleness: -1, WaitBudget: -1})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := db.PrimaryPool(); again != pool {
		t.Error("PrimaryPool made a second pool")
	}
	pause(t, c)

	// A read through the pool is no write: replicas go on serving.
	var n int
	if err := pool.QueryRow(t.Context(), "select count(*) from message").Scan(&n); err != nil {
		t.Fatal(err)
	}
	session := pgtide.NewSession(t.Context())
	if err := db.QueryRow(session, "select count(*) from message").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if d := last(t, session); d.Role != pgtide.RoleReplica {
		t.Errorf("a read after a read through the pool: %v, want a replica", d)
	}

	for name, write := range map[string]func(ctx context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := pool.Exec(ctx, "insert into pair values ('exec', '')")
			return err
		},
		"query": func(ctx context.Context) error {
			return pool.QueryRow(ctx, "insert into pair values ('query', '') returning v").Scan(new(string))
		},
		"rewritten": func(ctx context.Context) error {
			_, err := pool.Exec(ctx, "select 'rewritten'", instead("insert into pair values ('rewritten', '')"))
			return err
		},
		"batch": func(ctx context.Context) error {
			b := &pgx.Batch{}
			b.Queue("insert into pair values ('batch', '')")
			return pool.SendBatch(ctx, b).Close()
		},
		"copy": func(ctx context.Context) error {
			_, err := pool.CopyFrom(ctx, pgx.Identifier{"pair"}, []string{"k", "v"}, pgx.CopyFromRows([][]any{{"copy", ""}}))
			return err
		},
		"transaction": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into pair values ('transaction', '')")
				return err
			})
		},
	} {
		// Each in a session of its own: what another way has written does not count.
		ctx := pgtide.NewSession(t.Context())
		if err := write(ctx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for where, ctx := range map[string]context.Context{"in its session": ctx, "outside": t.Context()} {
			if err := db.QueryRow(ctx, "select count(*) from pair where k = $1", name).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s through the pool: a later read %s sees %d rows (%v)", name, where, n, err)
			}
		}
	}

	written := pgtide.NewSession(t.Context())
	if _, err := pool.Exec(written, "insert into message (text) values ('of the session')"); err != nil {
		t.Fatal(err)
	}
	token, ok := pgtide.TokenFrom(written)
	if !ok {
		t.Fatal("a session that wrote through the pool has no token")
	}
	elsewhere := pgtide.WithToken(t.Context(), token)
	other := open(t, c, pgtide.Options{MaxStaleness: -1, WaitBudget: -1})
	if err := other.QueryRow(elsewhere, "select count(*) from message where text = 'of the session'").Scan(&n); err != nil || n != 1 {
		t.Errorf("the session's next read, by another process, sees %d rows (%v): %v", n, err, pgtide.Explain(elsewhere))
	}
}

func TestPrimaryPoolFollowsThePrimary(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	held, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "insert into pair values ('before', '')"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := c.Replicas()[0]
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new primary to be seen", func() bool {
		for _, n := range db.Nodes() {
			if n.Writable {
				return n.Name == next.Name()
			}
		}
		return false
	})
	held.Release() // its server is gone: nobody else must get it
	for range 3 {
		if _, err := pool.Exec(t.Context(), "update pair set v = 'after'"); err != nil {
			t.Fatalf("write after the failover: %v", err)
		}
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := conn.Conn().Config().Port, uint16(next.Port()); got != want {
		t.Errorf("the pool leads to port %d, want the new primary's %d", got, want)
	}
	conn.Release()
}

// An old primary that goes on as if nothing had happened keeps nobody who uses
// the pool waiting.
func TestPrimaryPoolLeavesTheOldPrimary(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	taken, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listener := taken.Hijack()
	defer listener.Close(context.WithoutCancel(t.Context()))
	if _, err := listener.Exec(t.Context(), "listen news"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 2)
	go func() {
		_, err := listener.WaitForNotification(ctx)
		ended <- err
	}()
	go func() {
		_, err := pool.Exec(ctx, "select pg_sleep(3600)")
		ended <- err
	}()
	until(t, "the statement to have a connection", func() bool { return pool.Stat().AcquiredConns() == 1 })
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), c.Replicas()[0].Name()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; err == nil || ctx.Err() != nil {
			t.Errorf("a connection to the old primary ends with %v, want it closed", err)
		}
	}
	if _, err := pool.Exec(ctx, "update pair set v = 'after'"); err != nil {
		t.Errorf("write after the failover: %v", err)
	}
}

func TestPrimaryPoolIsClosed(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if err := pool.Ping(t.Context()); err == nil {
		t.Error("the pool outlives its DB")
	}
	if _, err := db.PrimaryPool(); !errors.Is(err, pgtide.ErrClosed) {
		t.Errorf("PrimaryPool of a closed DB: %v, want ErrClosed", err)
	}
	unused := open(t, shared, pgtide.Options{})
	unused.Close()
	if _, err := unused.PrimaryPool(); !errors.Is(err, pgtide.ErrClosed) {
		t.Errorf("PrimaryPool made after Close: %v, want ErrClosed", err)
	}
}
