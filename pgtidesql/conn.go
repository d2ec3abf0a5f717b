package pgtidesql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/internal/front"
)

// Conn is a handle: the connection that database/sql holds. Users meet it in
// sql.Conn.Raw.
type Conn struct {
	pool front.Pool
	held *held // a physical connection that the handle keeps
}

// held is a physical connection kept for more than one operation.
type held struct {
	call front.Call
	conn *physical
	tx   bool // by a transaction, which ends it
}

var (
	_ driver.Conn               = (*Conn)(nil)
	_ driver.ConnPrepareContext = (*Conn)(nil)
	_ driver.ConnBeginTx        = (*Conn)(nil)
	_ driver.ExecerContext      = (*Conn)(nil)
	_ driver.QueryerContext     = (*Conn)(nil)
	_ driver.Pinger             = (*Conn)(nil)
	_ driver.SessionResetter    = (*Conn)(nil)
	_ driver.Validator          = (*Conn)(nil)
	_ driver.NamedValueChecker  = (*Conn)(nil)
)

// ExecContext implements [driver.ExecerContext].
func (c *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	do := func(ctx context.Context, p *physical) error {
		result, err = p.std.ExecContext(ctx, query, args)
		return err
	}
	if c.held != nil {
		return result, c.held.use(ctx, query, rewritten(args), do)
	}
	p := &physical{}
	call := c.pool.Statement(ctx, query, rewritten(args), p.take)
	if err := attempts(ctx, call, p, do, true); err != nil {
		return nil, err
	}
	return result, c.finish(call, p, nil)
}

// finish ends a statement on p. The handle keeps p if the next statement must
// meet it: one acted on its session, or a text of several has left a
// transaction open. It returns what err is to the caller.
func (c *Conn) finish(call front.Call, p *physical, err error) error {
	if err == nil && c.held == nil && (call.Bound() || p.Conn().PgConn().TxStatus() != 'I') {
		call.Note(nil)
		c.held = &held{call: call, conn: p}
		return nil
	}
	_, err = call.Done(err)
	return clean(err)
}

// QueryContext implements [driver.QueryerContext].
func (c *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	var r driver.Rows
	do := func(ctx context.Context, p *physical) (err error) {
		r, err = p.std.QueryContext(ctx, query, args)
		return err
	}
	if h := c.held; h != nil {
		if err := h.use(ctx, query, rewritten(args), do); err != nil {
			return nil, err
		}
		return newRows(r, h.note)
	}
	p := &physical{}
	call := c.pool.Statement(ctx, query, rewritten(args), p.take)
	if err := attempts(ctx, call, p, do, true); err != nil {
		return nil, err
	}
	if call.Bound() {
		c.held = &held{call: call, conn: p}
		return newRows(r, c.held.note)
	}
	call.Hand() // pgx/stdlib has read the first row
	return newRows(r, func(err error) error { return c.finish(call, p, err) })
}

// note notes the end of a statement's rows. Its error is the caller's as it is.
func (h *held) note(err error) error {
	h.call.Note(err)
	return err
}

// use runs a further statement on a held connection.
func (h *held) use(ctx context.Context, query string, rewritten bool, do func(context.Context, *physical) error) error {
	if err := h.call.Pin(ctx, query, rewritten); err != nil {
		return err
	}
	err := do(ctx, h.conn)
	if !h.tx {
		h.call.Note(err)
	}
	return err
}

// PrepareContext implements [driver.ConnPrepareContext]: a server checks the
// statement and tells its parameters, and keeps nothing.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s := &stmt{conn: c, query: query}
	do := func(ctx context.Context, p *physical) error {
		d, err := p.Conn().Prepare(ctx, "", query)
		if err == nil {
			s.inputs = len(d.ParamOIDs)
		}
		return err
	}
	if c.held != nil {
		return s, c.held.use(ctx, "", false, do)
	}
	p := &physical{}
	return s, attempts(ctx, c.pool.Describe(ctx, query, p.take), p, do, false)
}

// Prepare implements [driver.Conn].
func (c *Conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// BeginTx implements [driver.ConnBeginTx].
func (c *Conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	options, err := pgxOptions(o)
	if err != nil {
		return nil, err
	}
	var begun driver.Tx
	do := func(ctx context.Context, p *physical) (err error) {
		begun, err = p.std.BeginTx(ctx, o)
		return err
	}
	if h := c.held; h != nil {
		if h.tx {
			return nil, errors.New("pgtidesql: a transaction is open on this connection already")
		}
		if err := h.use(ctx, "", false, do); err != nil {
			return nil, err
		}
		return &heldTx{Tx: begun, held: h}, nil
	}
	p := &physical{}
	call := c.pool.Transaction(ctx, options, p.take)
	if err := attempts(ctx, call, p, do, true); err != nil {
		return nil, err
	}
	c.held = &held{call: call, conn: p, tx: true}
	return &tx{Tx: begun, conn: c, ctx: ctx}, nil
}

// Begin implements [driver.Conn].
func (c *Conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Ping implements [driver.Pinger]: it asks the primary, or the node that ctx
// names.
func (c *Conn) Ping(ctx context.Context) error {
	do := func(ctx context.Context, p *physical) error { return p.std.Ping(ctx) }
	if c.held != nil {
		return c.held.use(ctx, "", false, do)
	}
	p := &physical{}
	return attempts(ctx, c.pool.Hold(pgtide.AllowWrites(ctx), p.take), p, do, false)
}

// Physical calls f with a pgx connection to the primary, or to the node that
// ctx names, which the handle keeps from then on. It is how to reach pgx from
// sql.Conn.Raw:
//
//	err := conn.Raw(func(c any) error {
//		return c.(*pgtidesql.Conn).Physical(ctx, func(p *pgx.Conn) error { ... })
//	})
func (c *Conn) Physical(ctx context.Context, f func(*pgx.Conn) error) error {
	do := func(_ context.Context, p *physical) error { return f(p.Conn()) }
	if c.held != nil {
		c.held.call.Spoil()
		return c.held.use(ctx, "", false, do)
	}
	p := &physical{}
	call := c.pool.Hold(ctx, p.take)
	if err := attempts(ctx, call, p, func(context.Context, *physical) error { return nil }, true); err != nil {
		return err
	}
	call.Spoil()
	c.held = &held{call: call, conn: p}
	return c.held.use(ctx, "", false, do)
}

// CheckNamedValue implements [driver.NamedValueChecker]: pgx encodes every type.
func (c *Conn) CheckNamedValue(*driver.NamedValue) error { return nil }

// ResetSession implements [driver.SessionResetter].
func (c *Conn) ResetSession(context.Context) error { return nil }

// IsValid implements [driver.Validator]. database/sql asks when a user gives
// the handle back: the moment to let go of what it holds.
func (c *Conn) IsValid() bool {
	c.release()
	return true
}

// Close implements [driver.Conn].
func (c *Conn) Close() error {
	c.release()
	return nil
}

func (c *Conn) release() {
	h := c.held
	if h == nil {
		return
	}
	c.held = nil
	if h.tx {
		h.call.Spoil() // it is still open
	}
	_, _ = h.call.Done(nil)
}

func isolation(level driver.IsolationLevel) (pgx.TxIsoLevel, error) {
	switch sql.IsolationLevel(level) {
	case sql.LevelDefault:
		return "", nil
	case sql.LevelReadUncommitted:
		return pgx.ReadUncommitted, nil
	case sql.LevelReadCommitted:
		return pgx.ReadCommitted, nil
	case sql.LevelRepeatableRead, sql.LevelSnapshot:
		return pgx.RepeatableRead, nil
	case sql.LevelSerializable:
		return pgx.Serializable, nil
	}
	return "", fmt.Errorf("pgtidesql: isolation level %v is not one of PostgreSQL", sql.IsolationLevel(level))
}
