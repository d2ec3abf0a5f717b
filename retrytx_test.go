package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
)

var conflict = &pgconn.PgError{Code: "40001", Message: "could not serialize access"}

func TestRetryOnlyWhatTheServerCancelled(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name  string
		err   error
		calls int
	}{
		{"success", nil, 1},
		{"serialization failure", conflict, 3},
		{"deadlock, wrapped", fmt.Errorf("transfer: %w", &pgconn.PgError{Code: "40P01"}), 3},
		{"unique violation", &pgconn.PgError{Code: "23505"}, 1},
		{"no answer", &pgtide.OutcomeUnknownError{Node: "a", Err: conflict}, 1},
		{"the program's own", broken, 1},
	} {
		calls := 0
		err := pgtide.Retry{Attempts: 3, Backoff: -1}.Do(t.Context(), func() error { calls++; return test.err })
		if calls != test.calls || !errors.Is(err, test.err) {
			t.Errorf("%s: %d calls and %v, want %d", test.name, calls, err, test.calls)
		}
		if test.calls > 1 && !strings.Contains(err.Error(), "after 3 attempts") {
			t.Errorf("%s: %v, want the number of attempts", test.name, err)
		}
	}
	calls := 0
	if err := (pgtide.Retry{Backoff: -1}).Do(t.Context(), func() error {
		if calls++; calls < 4 {
			return conflict
		}
		return nil
	}); err != nil || calls != 4 {
		t.Errorf("success at the fourth call: %d calls, %v", calls, err)
	}
}

func TestRetryBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, calls := time.Now(), 0
		var longest time.Duration
		last := began
		_ = pgtide.Retry{Attempts: 40, Backoff: 10 * time.Millisecond}.Do(t.Context(), func() error {
			calls++
			longest = max(longest, time.Since(last))
			last = time.Now()
			return conflict
		})
		if calls != 40 || longest > time.Second || longest < 500*time.Millisecond || time.Since(began) < 5*time.Second {
			t.Errorf("%d calls in %v, the longest wait %v: want 40, waits that grow up to a second", calls, time.Since(began), longest)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began = time.Now()
		err := pgtide.Retry{Attempts: 1 << 30}.Do(ctx, func() error { return conflict })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, conflict) || time.Since(began) > 3*time.Second {
			t.Errorf("after %v: %v, want the context's error and the server's within 3s", time.Since(began), err)
		}
	})
}

func TestRetryTx(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	id := insert(t, t.Context(), db, "0")
	const workers, rounds = 4, 10
	o := pgx.TxOptions{IsoLevel: pgx.Serializable}
	var group sync.WaitGroup
	var mu sync.Mutex
	runs := 0
	for range workers {
		group.Go(func() {
			for range rounds {
				err := db.RetryTx(t.Context(), o, pgtide.Retry{Attempts: 200}, func(tx pgx.Tx) error {
					mu.Lock()
					runs++
					mu.Unlock()
					var n int
					if err := tx.QueryRow(t.Context(), "select text::int from message where id = $1", id).Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), "update message set text = $1 where id = $2", fmt.Sprint(n+1), id)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	var n int
	if err := db.QueryRow(t.Context(), "select text::int from message where id = $1", id).Scan(&n); err != nil || n != workers*rounds {
		t.Errorf("the counter is %d (%v), want %d", n, err, workers*rounds)
	}
	if runs <= workers*rounds {
		t.Errorf("%d runs for %d transactions: there was no conflict to retry", runs, workers*rounds)
	}
}
