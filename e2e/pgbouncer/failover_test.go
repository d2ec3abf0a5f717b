package pgbouncer

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// The primary is killed and a replica promoted while sessions write and read
// through the poolers: each sees what it wrote or is told that it was lost, and no
// write is done twice.
func TestFailover(t *testing.T) {
	s := start(t, nil)
	db, std := s.open2(t, patient())
	old, next := s.Primary(), s.Replicas()[0]
	type made struct {
		text string
		err  error
	}
	var mu sync.Mutex // guards all
	var all []made
	var acknowledged, after atomic.Int64
	var promoted, stop atomic.Bool
	var workers sync.WaitGroup
	for worker := range 4 {
		workers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				w := writes[(i+worker)%len(writes)]
				text := fmt.Sprintf("%d of worker %d by %s", i, worker, w.what)
				ctx := pgtide.NewSession(t.Context())
				late := promoted.Load()
				err := w.do(ctx, db, std, text)
				mu.Lock()
				all = append(all, made{text, err})
				mu.Unlock()
				if err != nil {
					continue
				}
				acknowledged.Add(1)
				r := reads[i%len(reads)]
				found, err := r.do(ctx, db, std, text)
				switch {
				case err != nil && late:
					t.Errorf("%s after the failover: %v", r.what, err)
				case err == nil && !found && pgtide.Lost(ctx) == nil:
					t.Errorf("%s: %s is not found and nobody says why: %v", r.what, text, pgtide.Explain(ctx))
				case err == nil && late:
					after.Add(1)
				}
			}
		})
	}
	until(t, "a hundred writes", func() bool { return acknowledged.Load() > 100 })
	if err := old.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Promote(t.Context(), next.Name()); err != nil {
		t.Error(err)
	}
	until(t, "the new primary", func() bool { return status(t, db, next).Writable })
	promoted.Store(true)
	until(t, "a hundred writes after the failover", func() bool { return after.Load() > 100 || t.Failed() })
	stop.Store(true)
	workers.Wait()

	conn := connect(t, next.DSN())
	rows, _ := conn.Query(t.Context(), "select text, count(*) from message group by text")
	counts := map[string]int{}
	var text string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&text, &n}, func() error { counts[text] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	unknown := 0
	for _, m := range all {
		if counts[m.text] > 1 {
			t.Errorf("%s is there %d times", m.text, counts[m.text])
		}
		if errors.Is(m.err, pgtide.ErrOutcomeUnknown) {
			unknown++
		}
	}
	t.Logf("%d writes, %d acknowledged, %d of unknown outcome", len(all), acknowledged.Load(), unknown)
}
