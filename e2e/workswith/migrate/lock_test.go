package migrate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database/postgres"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// Processes that start at the same time migrate one after the other.
func TestLock(t *testing.T) {
	c := paused.New(t, seed)
	db := c.SQL(t)
	if _, err := c.DB.Exec(pgtide.WithConsistency(t.Context(), pgtide.Eventual), `select value from setting`); err != nil {
		t.Fatal(err)
	}

	// WithConnection keeps to one connection that the caller opens and closes. Of
	// migrate's PostgreSQL drivers only the one for lib/pq has it; it works with
	// any driver, but for the line numbers in its errors.
	t.Run("on a connection of its own", func(t *testing.T) {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		driver, err := postgres.WithConnection(t.Context(), conn, &postgres.Config{})
		if err != nil {
			t.Fatal(err)
		}
		m := with(t, driver, "migrations")
		if err := m.Steps(2); err != nil {
			t.Fatal(err)
		}
		at(t, m, 2, false)
		c.OnReplica(t, `select * from post`)
		if err := m.Down(); err != nil {
			t.Error(err)
		}
	})

	t.Run("whoever does not get the lock gives up", func(t *testing.T) {
		m := open(t, c.DB, "migrations")
		m.LockTimeout = 100 * time.Millisecond
		holder, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The lock is migrate's own, so another of its drivers can hold it.
		driver, err := postgres.WithConnection(t.Context(), holder, &postgres.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := driver.Lock(); err != nil {
			t.Fatal(err)
		}
		if n := locks(t, db); n != 1 {
			t.Errorf("%d sessions hold the lock, want 1", n)
		}
		if err := m.Up(); !errors.Is(err, migrate.ErrLockTimeout) {
			t.Errorf("Up returns %v, want that it could not have the lock", err)
		}
		if err := driver.Unlock(); err != nil {
			t.Error(err)
		}
		if err := holder.Close(); err != nil {
			t.Error(err)
		}
	})

	t.Run("only one process migrates at a time", func(t *testing.T) {
		errs := make(chan error)
		for range 2 {
			m := open(t, c.DB, "migrations")
			// Not to the index: building it concurrently waits for every transaction,
			// and whoever waits for the lock is in one.
			go func() { errs <- m.Migrate(1) }()
		}
		var done, unchanged int
		for range 2 {
			switch err := <-errs; {
			case err == nil:
				done++
			case errors.Is(err, migrate.ErrNoChange):
				unchanged++
			default:
				t.Error(err)
			}
		}
		if done != 1 || unchanged != 1 {
			t.Errorf("%d processes migrated and %d found nothing to do, want 1 and 1", done, unchanged)
		}
	})
}
