package pgtide

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// Acquire takes a connection out of the pool of one node: the primary, unless
// ctx says [OnReplica] or [OnNode]. The connection stays on its node. It must
// be given back with [Conn.Release].
func (db *DB) Acquire(ctx context.Context) (*Conn, error) {
	c := db.newCall(ctx, route.Transaction)
	c.begin = true
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	return &Conn{call: &c}, nil
}

// AcquireFunc calls f with a connection that [DB.Acquire] takes, and gives it
// back when f returns. Its error is that of f, or of Acquire.
func (db *DB) AcquireFunc(ctx context.Context, f func(*Conn) error) error {
	c, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return f(c)
}

// Conn is a connection to one node, out of its pool. Like a [pgxpool.Conn] it
// is for one goroutine at a time.
//
// Each method's call on a primary counts as a write: reads that come later,
// elsewhere, see what it did. What is done through [Conn.Conn] counts when the
// connection is released. Errors are pgx's own: whoever holds a connection
// judges them.
type Conn struct{ call *call }

// Node returns the name of the node that c leads to.
func (c *Conn) Node() string { return c.call.node.name() }

// Conn returns the connection itself. What is done with it is not seen, so
// [Conn.Release] closes it.
func (c *Conn) Conn() *pgx.Conn {
	c.call.leaves = true
	return c.call.conn.Conn()
}

// Pool returns the connection as its pool gave it out, as [Conn.Conn] does. It
// must not be released but through c.
func (c *Conn) Pool() *pgxpool.Conn {
	c.call.leaves = true
	conn, _ := c.call.conn.(*pgxpool.Conn)
	return conn
}

// Release gives c back to its pool. If a statement may have left something in the
// server session (SET, LISTEN, a temporary table, an advisory lock), the
// connection is closed, so that nobody else meets it. Statements prepared by name
// stay, as in a [pgxpool.Pool]; what one leaves that [Options.Configure] has had
// prepared is not seen. Further calls of Release do nothing.
func (c *Conn) Release() {
	if c.call.conn == nil {
		return
	}
	c.note()
	c.call.giveBack()
	c.call.result(nil, false)
}

// Hijack takes the connection out of its pool for good, as for listening: the
// caller has to close it, and c is released. What is written on it from then on
// counts for nobody's reads. It is nil when c was released before.
func (c *Conn) Hijack() *pgx.Conn {
	pooled := c.Pool()
	if pooled == nil {
		return nil
	}
	c.note()
	conn := pooled.Hijack()
	c.call.conn = nil
	c.call.leave()
	c.call.result(nil, false)
	return conn
}

// note keeps what a call on c means for later reads.
func (c *Conn) note() { c.call.noteHeld(true) }

// noteHeld is note for a connection that is held. The position of a write is
// not asked for, as it might be part of a transaction: the next sample of the
// primary covers it.
func (c *call) noteHeld(acked bool) {
	switch {
	case c.role() == topology.Primary:
		c.db.wrote(c.state, nil, &c.view.Nodes[c.node.place], acked)
	case c.state != nil:
		c.state.read(c.node.place, c.view, c.req.Level)
	}
}

// Exec runs a statement on c.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	c.call.pin()
	args, err := c.call.furtherArgs(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer c.note()
	return c.call.conn.Conn().Exec(ctx, sql, args...)
}

// Query runs a statement on c and returns its rows.
func (c *Conn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.call.pin()
	args, err := c.call.furtherArgs(ctx, sql, args)
	if err != nil {
		return &rows{over: true, err: err}, err
	}
	r, err := c.call.conn.Conn().Query(ctx, sql, args...)
	return &connRows{Rows: r, conn: c}, err
}

// QueryRow runs a statement on c that returns at most one row.
func (c *Conn) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := c.Query(ctx, sql, args...) // its error is kept for Scan
	return batchRow{rows}
}

// SendBatch sends all statements of b at once.
func (c *Conn) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	c.call.pin()
	if err := c.call.furtherBatch(ctx, b); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return &connBatch{BatchResults: c.call.conn.Conn().SendBatch(ctx, b), conn: c}
}

// CopyFrom copies rows into a table.
func (c *Conn) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rowSrc pgx.CopyFromSource) (int64, error) {
	c.call.pin()
	if err := c.call.furtherCopy(ctx); err != nil {
		return 0, err
	}
	defer c.note()
	return c.call.conn.Conn().CopyFrom(ctx, table, columns, rowSrc)
}

// Begin starts a transaction on c.
func (c *Conn) Begin(ctx context.Context) (pgx.Tx, error) {
	return c.BeginTx(ctx, pgx.TxOptions{})
}

// BeginTx starts a transaction on c.
func (c *Conn) BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error) {
	c.call.pin()
	t, err := c.call.conn.Conn().BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	return &connTx{pinned: pinned{t, c.call}, conn: c}, nil
}

// Ping asks the server for a sign of life.
func (c *Conn) Ping(ctx context.Context) error { return c.call.conn.Conn().Ping(ctx) }

// connRows note the end of a statement on a connection.
type connRows struct {
	pgx.Rows
	conn *Conn
}

// Next implements [pgx.Rows].
func (r *connRows) Next() bool {
	ok := r.Rows.Next()
	if !ok {
		r.conn.note()
	}
	return ok
}

// Close implements [pgx.Rows].
func (r *connRows) Close() {
	r.Rows.Close()
	r.conn.note()
}

// connBatch notes the end of a batch on a connection.
type connBatch struct {
	pgx.BatchResults
	conn *Conn
}

// Tx implements [pgx.BatchResults].
func (b *connBatch) Tx() pgx.Tx {
	t := b.BatchResults.Tx()
	if t == nil {
		return nil
	}
	return &connTx{pinned: pinned{t, b.conn.call}, conn: b.conn}
}

// Close implements [pgx.BatchResults].
func (b *connBatch) Close() error {
	defer b.conn.note()
	return b.BatchResults.Close()
}

// connTx notes the end of a transaction on a connection.
type connTx struct {
	pinned
	conn *Conn
}

// Commit implements [pgx.Tx].
func (t *connTx) Commit(ctx context.Context) error {
	defer t.conn.note()
	return t.Tx.Commit(ctx)
}
