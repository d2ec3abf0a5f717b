package pgtide

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/alive"
	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
)

// Begin starts a transaction on the primary. See [DB.BeginTx].
func (db *DB) Begin(ctx context.Context) (pgx.Tx, error) {
	return db.BeginTx(ctx, pgx.TxOptions{})
}

// BeginTx starts a transaction. All its statements run on the node it began
// on, so reads in it see its own writes.
//
// One with access mode [pgx.ReadOnly] may begin on a replica that has what the
// session must see; every other begins on the primary, and so does a
// serializable one, which no standby can run. [OnReplica] also sends one there
// whose options do not say that it writes.
//
// A Commit that is sent and not answered returns [ErrOutcomeUnknown].
func (db *DB) BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error) {
	c := db.newCall(ctx, beginReason(o))
	c.begin = true
	for {
		if err := c.acquire(ctx); err != nil {
			return nil, err
		}
		c.verify()
		t, err := c.conn.Conn().BeginTx(c.ctx, o)
		if err == nil {
			return &tx{pinned: pinned{t, &c}, write: c.beganWriting()}, nil
		}
		again, err := c.done(err)
		if !again {
			return nil, err
		}
	}
}

func beginReason(o pgx.TxOptions) route.Reason {
	switch {
	case o.AccessMode == pgx.ReadWrite || o.IsoLevel == pgx.Serializable:
		return route.Write // whatever the caller's context says
	case o.AccessMode == pgx.ReadOnly && o.BeginQuery == "":
		return route.ReasonNone
	}
	return route.Transaction
}

// tx is a transaction and the connection it holds.
type tx struct {
	pinned
	write bool // it may write: its commit must be noted
	ended bool
}

// Commit implements [pgx.Tx].
func (t *tx) Commit(ctx context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	t.ended = true
	return t.call.commit(ctx, t.write, t.Tx.Commit)
}

// Rollback implements [pgx.Tx].
func (t *tx) Rollback(ctx context.Context) error {
	if t.ended {
		return pgx.ErrTxClosed
	}
	t.ended = true
	return t.call.rollback(func() error { return t.Tx.Rollback(ctx) })
}

// beganWriting reports whether a transaction that c has begun may write.
func (c *call) beganWriting() bool {
	return !c.role().Follows() && c.req.Write != route.ReasonNone
}

// commit ends the transaction that c has begun: do sends the COMMIT.
func (c *call) commit(ctx context.Context, write bool, do func(context.Context) error) error {
	c.begin = !write
	if write && !alive.Check(c.conn.Conn().PgConn().Conn()) {
		// The server is gone before it could be told to commit: so much is known.
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = c.conn.Conn().Close(ended)
	}
	c.arm(stamp.Query)
	err := do(ctx)
	a := attempt{write: write, connected: true, sent: !c.untouched(), broken: c.conn.Conn().IsClosed()}
	if write {
		c.db.wrote(c.state, c.stamped(), &c.view.Nodes[c.node.place], err == nil)
	} else {
		c.read()
	}
	c.end(err)
	if err == nil || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	v := judge(ctx.Err(), err, a)
	if v.suspect {
		c.db.watch.Kick(1 << uint(c.node.place))
	}
	if v.next == outcomeUnknown {
		c.db.stat.unknown.Add(1)
		return &OutcomeUnknownError{Node: c.node.name(), Err: err}
	}
	return err
}

// rollback ends the transaction that c has begun: do sends the ROLLBACK.
func (c *call) rollback(do func() error) error {
	err := do()
	c.read()
	c.end(err)
	return err
}

// read notes that the session was shown what the transaction has read.
func (c *call) read() {
	if c.state != nil {
		c.state.read(c.node.place, c.view, c.req.Level)
	}
}

// end gives the connection of a transaction back. The pool closes one that is
// still in it.
func (c *call) end(err error) {
	c.giveBack()
	c.result(err, false)
}

// settle ends a transaction that a batch could not begin.
func (t *tx) settle() {
	if t.ended {
		return
	}
	if conn := t.call.conn; conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		t.ended = true
		t.call.end(nil)
	}
}
