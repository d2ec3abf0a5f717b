package pgtide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Defaults of [Retry].
const (
	DefaultAttempts = 10
	DefaultBackoff  = 5 * time.Millisecond
)

// maxBackoff bounds the wait between two attempts.
const maxBackoff = time.Second

// Retry says how often a transaction is run again that the server has cancelled
// because of another one. The zero value is useful.
type Retry struct {
	// Attempts is how often it is run at most, the first included. Defaults to
	// [DefaultAttempts].
	Attempts int
	// Backoff bounds the wait before the second attempt, which is random; the
	// bound doubles with each further one, up to a second. Defaults to
	// [DefaultBackoff]; negative never waits.
	Backoff time.Duration

	_ struct{} // field names are required
}

// Do calls f, a whole transaction, and again for as long as it returns a
// serialization failure or a deadlock (SQLSTATE 40001 and 40P01), which say that
// nothing of it was done and that it may do better now. Every other error ends
// it, [ErrOutcomeUnknown] too. The last error is returned, wrapped if the attempts
// have run out or ctx has ended.
func (r Retry) Do(ctx context.Context, f func() error) error {
	attempts := cmp.Or(max(r.Attempts, 0), DefaultAttempts)
	bound := duration(r.Backoff, DefaultBackoff)
	for n := 1; ; n++ {
		err := f()
		if !repeatable(err) {
			return err
		}
		if n == attempts {
			return fmt.Errorf("after %d attempts: %w", n, err)
		}
		if ended := pause(ctx, bound); ended != nil {
			return fmt.Errorf("%w, after attempt %d: %w", ended, n, err)
		}
		bound = min(2*bound, maxBackoff)
	}
}

// repeatable reports whether err says that a transaction was cancelled as a
// whole, by the server, for the sake of another.
func repeatable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !OutcomeUnknown(err) &&
		(pg.Code == codeSerializationFailure || pg.Code == codeDeadlock)
}

// pause waits a random time up to bound, so that transactions in each other's
// way do not meet again.
func pause(ctx context.Context, bound time.Duration) error {
	if bound <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(rand.N(bound))
	defer timer.Stop()
	select {
	case <-timer.C:
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RetryTx runs f in a transaction as [pgx.BeginTxFunc] does, and again as r says.
// So f must be fit to be run more than once: what it does beside the transaction
// is not undone. It returns the errors of f and of the commit.
func (db *DB) RetryTx(ctx context.Context, o pgx.TxOptions, r Retry, f func(pgx.Tx) error) error {
	return r.Do(ctx, func() error { return pgx.BeginTxFunc(ctx, db, o, f) })
}
