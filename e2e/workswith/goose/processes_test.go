package goose_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

// another opens the cluster once more, as another process would: it knows
// nothing of what the first one has written.
func another(t *testing.T, c *paused.Cluster) *sql.DB {
	t.Helper()
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	tide, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tide.Close)
	db := pgtidesql.Open(tide)
	t.Cleanup(func() { db.Close() })
	return db
}

// testElsewhere shows why migrations want OnPrimary. The replicas know of all
// migrations and not that one was taken back: to another process that reads
// there, nothing is pending.
func testElsewhere(t *testing.T, c *paused.Cluster, provider *goose.Provider) {
	c.Replay(t)
	for _, r := range c.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := provider.Down(pgtide.OnPrimary(t.Context())); err != nil {
		t.Fatal(err)
	}
	late := newProvider(t, another(t, c), "migrations")
	if pending, err := late.HasPending(t.Context()); err != nil || pending {
		t.Fatalf("the replicas say that migrations are pending: %v, %v; they are not paused", pending, err)
	}
	ctx := pgtide.OnPrimary(t.Context())
	if pending, err := late.HasPending(ctx); err != nil || !pending {
		t.Errorf("the primary says that migrations are pending: %v, %v; want true", pending, err)
	}
	if results, err := late.Up(ctx); err != nil || len(results) != 1 {
		t.Errorf("Up applies %v, %v; want the one that is pending", results, err)
	}
}

// Processes that start at the same time migrate one after the other.
func TestLock(t *testing.T) {
	c := paused.New(t, seed)
	db := c.SQL(t)
	if _, err := c.DB.Exec(pgtide.WithConsistency(t.Context(), pgtide.Eventual), `select value from setting`); err != nil {
		t.Fatal(err)
	}

	t.Run("only one process migrates", func(t *testing.T) {
		type outcome struct {
			applied int
			err     error
		}
		outcomes := make(chan outcome)
		for _, db := range []*sql.DB{db, another(t, c)} {
			provider := newProvider(t, db, "migrations")
			go func() {
				results, err := provider.Up(pgtide.OnPrimary(t.Context()))
				outcomes <- outcome{len(results), err}
			}()
		}
		applied := 0
		for range 2 {
			o := <-outcomes
			if o.err != nil {
				t.Error(o.err)
			}
			applied += o.applied
		}
		if applied != 5 {
			t.Errorf("applied %d migrations in all, want each of 5 once", applied)
		}
		if n := locks(t, db); n != 0 {
			t.Errorf("%d sessions hold the lock, want none", n)
		}
	})

	t.Run("a lock kept in a table", func(t *testing.T) {
		locker, err := lock.NewPostgresTableLocker()
		if err != nil {
			t.Fatal(err)
		}
		provider, err := goose.NewProvider(goose.DialectPostgres, db, sub(t, "migrations"),
			goose.WithLocker(locker), goose.WithGoMigrations(goose.NewGoMigration(3, nil, nil), goose.NewGoMigration(4, nil, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
		for range 2 { // the second time the lock's table is there
			if _, err := provider.Down(ctx); err != nil {
				t.Fatal(err)
			}
			if results, err := provider.Up(ctx); err != nil || len(results) != 1 {
				t.Fatalf("Up applies %v, %v; want one migration", results, err)
			}
		}
		allAtPrimary(t, ctx)
		var locked bool
		if err := db.QueryRowContext(t.Context(), `select bool_or(locked) from goose_lock`).Scan(&locked); err != nil || locked {
			t.Errorf("the lock is held: %v, %v; want it released", locked, err)
		}
	})

	t.Run("whoever waits for the lock can give up", func(t *testing.T) {
		holder, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			t.Fatal(err)
		}
		if err := locker.SessionLock(t.Context(), holder); err != nil {
			t.Fatal(err)
		}
		if n := locks(t, db); n != 1 {
			t.Errorf("%d sessions hold the lock, want 1", n)
		}
		ctx, cancel := context.WithTimeout(pgtide.OnPrimary(t.Context()), 200*time.Millisecond)
		defer cancel()
		if _, err := newProvider(t, db, "migrations").Down(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Down returns %v, want the end of its context", err)
		}
		// A holder that forgets to unlock takes the lock with its connection.
		if err := holder.Close(); err != nil {
			t.Fatal(err)
		}
		unlocked(t, db)
	})
}

// unlocked waits until the server has noticed that a connection which held the
// lock is closed: it gives no signal.
func unlocked(t *testing.T, db *sql.DB) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); locks(t, db) != 0; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lock is held after its connection was closed")
		}
	}
}
