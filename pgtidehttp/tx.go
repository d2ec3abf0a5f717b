package pgtidehttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	// ErrNoTransaction: the request has no transaction to give. The text says why.
	ErrNoTransaction = errors.New("no transaction for this request")
	// ErrNotCommitted: the request's transaction could not be committed, so what
	// the handler answers is not sent. The error that wraps it wraps the cause
	// too: [pgtide.ErrOutcomeUnknown] when nobody knows.
	ErrNotCommitted = errors.New("the request's transaction is not committed")
)

// rollbackTimeout bounds a rollback, which outlives its request's context.
const rollbackTimeout = 5 * time.Second

// Tx returns the transaction of the request that ctx belongs to. It begins with
// the first call: read-only, and then perhaps on a replica, if the request is
// taken to read only; else read-write on the primary. A request's method says
// which, unless a wrapper, a header or a route says otherwise: [UsePrimary] is for
// a GET that writes.
//
// The transaction ends by itself before the first byte of the response: with a
// commit, or with a rollback if the status is 500 or more or the handler panics.
// If the commit fails, the client gets a 500 and nothing of what the handler
// answers. A handler may end the transaction itself. Rows of it must be read
// before the response begins; to stream them, begin a transaction with the DB.
//
// There is one where [Options.Transactions] or [Atomic] says so; else, and once
// the response has begun, the error matches [ErrNoTransaction]. Like any [pgx.Tx]
// it is for one goroutine at a time, the handler's: below an
// [http.TimeoutHandler], which answers from another, Wrap must be inside it.
func Tx(ctx context.Context) (pgx.Tx, error) {
	s := scopeOf(ctx)
	switch {
	case s.w == nil:
		return nil, fmt.Errorf("%w: it was not served through Middleware.Wrap", ErrNoTransaction)
	case s.atomic == notAtomic || s.atomic == unsaid && !s.w.m.transactions:
		return nil, fmt.Errorf("%w: neither Options.Transactions nor Atomic asks for one, or NonAtomic is nearer", ErrNoTransaction)
	}
	return s.w.tx.begin(ctx, s.w.m.db, s.reads)
}

// atomicity is what a wrapper says of transactions.
type atomicity uint8

const (
	unsaid atomicity = iota
	isAtomic
	notAtomic
)

// Atomic returns h with a transaction for each request: see [Tx].
func Atomic(h http.Handler) http.Handler { return withAtomicity(isAtomic, h) }

// NonAtomic returns h without one, under [Options.Transactions] or [Atomic].
func NonAtomic(h http.Handler) http.Handler { return withAtomicity(notAtomic, h) }

func withAtomicity(a atomicity, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner := &scoped{r.Context(), *scopeOf(r.Context())}
		inner.scope.atomic = a
		h.ServeHTTP(w, r.WithContext(inner))
	})
}

// transaction is that of one request. Its handler's goroutines may share it.
type transaction struct {
	mu       sync.Mutex
	tx       pgx.Tx // nil until it is asked for
	readOnly bool
	over     bool // the response has begun
}

func (t *transaction) begin(ctx context.Context, db database, readOnly bool) (pgx.Tx, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return nil, fmt.Errorf("%w: the response has begun", ErrNoTransaction)
	case t.tx != nil && t.readOnly && !readOnly:
		return nil, fmt.Errorf("%w: it has begun as one that only reads: wrap the whole handler in UsePrimary", ErrNoTransaction)
	case t.tx != nil:
		return t.tx, nil
	}
	o := pgx.TxOptions{AccessMode: pgx.ReadWrite}
	if readOnly {
		o.AccessMode = pgx.ReadOnly
	}
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("begin the request's transaction: %w", err)
	}
	t.tx, t.readOnly = tx, readOnly
	return tx, nil
}

// end ends the transaction, if there is one that has not been ended. An error
// says that it was to be committed and is not, as far as anybody knows.
func (t *transaction) end(ctx context.Context, commit bool, stat *counters) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.tx == nil {
		t.over = true
		return nil
	}
	t.over = true
	if !commit {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if err := t.tx.Rollback(ctx); !errors.Is(err, pgx.ErrTxClosed) {
			stat.rolledBack.Add(1) // if only because its connection is gone
		}
		return nil
	}
	switch err := t.tx.Commit(ctx); {
	case err == nil:
		stat.committed.Add(1)
	case errors.Is(err, pgx.ErrTxClosed): // by the handler
	default:
		stat.commitErrors.Add(1)
		return fmt.Errorf("%w: %w", ErrNotCommitted, err)
	}
	return nil
}
