package pgtide_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// Writes that wait for a connection to a primary that hangs were never sent:
// they go to the next one, however full its pool is.
func TestUnsentWritesLeaveAPrimaryThatHangs(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	const places, writers = 2, 10
	db := open(t, c, pgtide.Options{Configure: func(_ string, config *pgxpool.Config) error {
		config.MaxConns = places
		return nil
	}})
	old, next := c.Primary(), c.Replicas()[0]
	if err := old.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() { _, errs[i] = db.Exec(t.Context(), "insert into message (text) values ('stuck')") })
	}
	until(t, "the writes to wait", func() bool {
		s := db.Stat().Nodes[0]
		return s.Pool.AcquiredConns()+s.Pool.ConstructingConns() == places
	})
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	unknown := 0
	for _, err := range errs {
		switch {
		case errors.Is(err, pgtide.ErrOutcomeUnknown):
			unknown++
		case err != nil:
			t.Errorf("a write that waited: %v", err)
		}
	}
	if unknown > places {
		t.Errorf("%d writes are of unknown outcome, and %d connections were there to send them", unknown, places)
	}
	var n int
	if err := db.QueryRow(pgtide.OnPrimary(t.Context()), "select count(*) from message").Scan(&n); err != nil || n != writers-unknown {
		t.Errorf("%d rows (%v), want %d: %d writes less %d of unknown outcome", n, err, writers-unknown, writers, unknown)
	}
	if err := old.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
}
