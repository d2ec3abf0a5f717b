package pgtide

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/front"
	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
)

func init() {
	front.Of = func(db any) front.Pool { return frontPool{db.(*DB)} }
}

// frontPool makes calls for other fronts.
type frontPool struct{ db *DB }

func (p frontPool) Statement(ctx context.Context, sql string, rewritten bool, take front.Take) front.Call {
	c := p.db.statement(ctx, sql, rewritten)
	c.take, c.leaves = take, c.leaves || rewritten
	return &frontCall{call: c}
}

func (p frontPool) Describe(ctx context.Context, sql string, take front.Take) front.Call {
	c := p.db.statement(ctx, sql, false)
	c.take, c.begin, c.leaves = take, true, false
	return &frontCall{call: c}
}

func (p frontPool) Transaction(ctx context.Context, o pgx.TxOptions, take front.Take) front.Call {
	c := p.db.newCall(ctx, beginReason(o))
	c.take, c.begin = take, true
	return &frontCall{call: c, begins: true, readOnly: o.AccessMode == pgx.ReadOnly}
}

func (p frontPool) Hold(ctx context.Context, take front.Take) front.Call {
	c := p.db.newCall(ctx, route.Transaction)
	c.take, c.begin = take, true
	return &frontCall{call: c}
}

// frontCall is a call in the hands of another front.
type frontCall struct {
	call
	begins   bool // a transaction
	readOnly bool // one that says so
	pinned   bool // statements ran on it after the first
}

func (c *frontCall) Acquire(ctx context.Context) (context.Context, error) {
	if err := c.acquire(ctx); err != nil {
		return ctx, err
	}
	c.arm(stamp.Query)
	if c.begins {
		c.verify()
	}
	if c.Bound() {
		c.disarm()
	}
	return c.ctx, nil
}

// disarm ends the stamping on a connection that is held: what follows may be a
// transaction, and its statements must go out as they are.
func (c *frontCall) disarm() {
	if c.armed {
		c.wire.Take()
		c.armed = false
	}
}

func (c *frontCall) Done(err error) (again bool, _ error) {
	if c.conn == nil {
		return false, err
	}
	c.handed = c.handed || c.pinned
	return c.done(err)
}

func (c *frontCall) Hand() { c.hand() }

func (c *frontCall) Bound() bool {
	return c.leaves || c.req.Write == route.SessionBound || c.req.Write == route.Unclassified
}

func (c *frontCall) Pin(ctx context.Context, sql string, rewritten bool) error {
	c.pinned = true
	c.pin()
	switch {
	case rewritten:
		return c.furtherRewritten(ctx)
	case sql == "":
		return nil
	}
	return c.further(ctx, sql)
}

func (c *frontCall) Spoil() { c.leaves = true }

func (c *frontCall) Note(err error) {
	c.disarm()
	c.noteHeld(err == nil)
}

func (c *frontCall) Commit(ctx context.Context, do func() error) error {
	return c.commit(ctx, c.beganWriting(), func(context.Context) error { return do() })
}

func (c *frontCall) Rollback(do func() error) error { return c.rollback(do) }
