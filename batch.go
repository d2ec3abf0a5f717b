package pgtide

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/stamp"
)

// SendBatch sends all statements of b at once. A batch is a read only if each
// of its statements is; then it may be sent again, to another node, as long as
// nothing of its results was handed out. b itself is not changed.
func (db *DB) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	k := db.classifyBatch(b)
	r := &batch{call: db.newCall(ctx, k.write), base: ctx, source: b, bound: k.bound}
	r.several = b.QueuedQueries
	r.detail, r.mayCall, r.leaves, r.unseen = k.detail, k.calls, k.leaves, true
	_ = r.send() // kept for the first result
	return r
}

// batchKind is what there is to know of a batch's statements.
type batchKind struct {
	write  route.Reason // why it must go to the primary, if it must
	detail string
	// bound says that it acts on the server session: it may end in a transaction.
	bound  bool
	calls  bool // it calls functions that may write
	leaves bool // it may leave something in the session
}

// classifyBatch looks at all statements. Hints of single statements do not count:
// they all go to one node. A standby that refuses the first of them is no harm;
// by the time it refuses a later one, results may have been handed out.
func (db *DB) classifyBatch(b *pgx.Batch) (k batchKind) {
	for i, q := range b.QueuedQueries {
		v := db.kinds.Classify(q.SQL)
		if rewritten(q.Arguments) {
			v.Kind, v.Reason, v.Calls, v.Leaves = sqlkind.Unknown, "query rewriter", false, true
		}
		if i > 0 && v.Calls {
			v.Kind, v.Reason = sqlkind.Unknown, "function call in a batch"
		}
		k.calls, k.leaves = k.calls || v.Calls, k.leaves || v.Leaves
		if v.Kind == sqlkind.Read {
			continue
		}
		k.bound = k.bound || v.Kind == sqlkind.Session
		// What only acts on the session says less than what writes.
		if why := writeReason(v.Kind); k.write == route.ReasonNone || !isWrite(k.write) && isWrite(why) {
			k.write, k.detail = why, v.Reason
		}
	}
	return k
}

// batch is the result of a batch that may still have to be sent again.
type batch struct {
	call
	base   context.Context // the caller's, for further attempts
	source *pgx.Batch
	bound  bool

	results pgx.BatchResults // of the attempt under way; nil when it could not be sent
	tx      *tx              // begun by the batch; it owns the connection
	noTx    pgx.Tx           // closed, in place of one that could not be begun
	next    int              // index of the next statement
	over    bool             // done was called for the attempt
	err     error            // the final error
}

// send makes one attempt. Callbacks stay here: pgx would run them for an
// attempt that is not the last.
func (b *batch) send() error {
	if b.err = b.acquire(b.base); b.err != nil {
		b.results, b.over = nil, true
		b.noTx = pgx.FailedBatchResults(b.source, b.err).Tx()
		return b.err
	}
	if !b.bound {
		b.arm(stamp.Query)
	}
	b.over = false
	attempt := *b.source
	attempt.QueuedQueries = make([]*pgx.QueuedQuery, len(b.source.QueuedQueries))
	for i, q := range b.source.QueuedQueries {
		attempt.QueuedQueries[i] = &pgx.QueuedQuery{SQL: q.SQL, Arguments: q.Arguments}
	}
	b.results = b.conn.Conn().SendBatch(b.ctx, &attempt)
	if t := b.results.Tx(); t != nil {
		b.tx = &tx{pinned: pinned{t, &b.call}, write: true}
	}
	return nil
}

// again ends an attempt whose statement at this index failed with err, and makes
// another one if it may.
func (b *batch) again(err error, at int) bool {
	b.sql = ""
	if q := b.source.QueuedQueries; at < len(q) && !rewritten(q[at].Arguments) {
		b.sql = q[at].SQL // what a standby refused is learned
	}
	if b.over || b.handed || b.tx != nil || at > 0 {
		return false
	}
	_ = b.results.Close() // the error is known
	b.over = true
	var again bool
	if again, b.err = b.done(err); !again {
		return false
	}
	return b.send() == nil
}

// failure is the error for a result that cannot be had from b.results.
func (b *batch) failure() error {
	if b.err != nil {
		return b.err
	}
	return errors.New("batch already closed")
}

// Exec implements [pgx.BatchResults].
func (b *batch) Exec() (pgconn.CommandTag, error) {
	for !b.over {
		tag, err := b.results.Exec()
		if err == nil {
			b.next, b.handed = b.next+1, true
			return tag, nil
		}
		if !b.again(err, b.next) && !b.over {
			return tag, err
		}
	}
	return pgconn.CommandTag{}, b.failure()
}

// Query implements [pgx.BatchResults].
func (b *batch) Query() (pgx.Rows, error) {
	r := &batchRows{batch: b}
	for !b.over {
		var err error
		if r.Rows, err = b.results.Query(); err == nil {
			b.next++
			return r, nil
		}
		if !b.again(err, b.next) && !b.over {
			return r.Rows, err
		}
	}
	r.Rows = &rows{over: true, err: b.failure()}
	return r, b.failure()
}

// QueryRow implements [pgx.BatchResults].
func (b *batch) QueryRow() pgx.Row {
	r, _ := b.Query() // its error is kept for Scan
	return batchRow{r}
}

// Close implements [pgx.BatchResults]. It runs the callbacks of results that
// have not been read.
func (b *batch) Close() error {
	for !b.over && b.next < len(b.source.QueuedQueries) {
		at := b.next
		var err error
		if fn := b.source.QueuedQueries[at].Fn; fn != nil {
			err = fn(b)
		} else {
			_, err = b.Exec()
		}
		if err != nil && !b.over {
			b.end(b.results.Close(), err)
			return b.err
		}
		b.next = max(b.next, at+1)
	}
	if !b.over {
		b.end(b.results.Close(), nil)
	}
	return b.err
}

// end ends the last attempt: err is the server's, failure one of a callback.
func (b *batch) end(err, failure error) {
	b.over, b.handed = true, true
	if b.tx != nil {
		b.err = cmp.Or(err, failure)
		b.tx.settle()
		return
	}
	_, err = b.done(err)
	b.err = cmp.Or(err, failure)
}

// Tx implements [pgx.BatchResults].
func (b *batch) Tx() pgx.Tx {
	if b.tx == nil {
		return b.noTx
	}
	return b.tx
}

// batchRows are the rows of one statement of a batch.
type batchRows struct {
	pgx.Rows
	batch *batch
}

// Next implements [pgx.Rows]. The batch may still be sent again when its first
// statement fails before its first row.
func (r *batchRows) Next() bool {
	for {
		if r.Rows.Next() {
			r.batch.hand()
			return true
		}
		err := r.Rows.Err()
		if err == nil {
			r.batch.handed = true
			return false
		}
		if !r.batch.again(err, r.batch.next-1) {
			return false
		}
		if r.Rows, err = r.batch.results.Query(); err != nil {
			return false
		}
	}
}

// Err implements [pgx.Rows].
func (r *batchRows) Err() error {
	if r.batch.over {
		return r.batch.err
	}
	return r.Rows.Err()
}

// Close implements [pgx.Rows].
func (r *batchRows) Close() {
	r.batch.handed = true // whoever closes the rows wants no other attempt
	r.Rows.Close()
}

// batchRow is the rows of a statement of which one is wanted.
type batchRow struct{ rows pgx.Rows }

// Scan implements [pgx.Row].
func (r batchRow) Scan(dest ...any) error { return scanRow(r.rows, dest) }
