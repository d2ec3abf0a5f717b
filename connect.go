package pgtide

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/alive"
	"github.com/pgtide/pgtide/internal/front"
	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// connect takes a connection of the node's pool. For a write it must not be one
// that the server has closed: what is sent there is not answered, and then
// nobody knows.
func (c *call) connect() (front.Connection, error) {
	for {
		conn, err := c.takeOne()
		if err != nil || !c.writes() || alive.Check(conn.Conn().PgConn().Conn()) {
			return conn, err
		}
		bury(conn)
	}
}

func (c *call) takeOne() (front.Connection, error) {
	conn, err := c.takeAny()
	if errors.Is(err, errPooled) {
		return c.takeAny() // which is made to suit the pooler
	}
	return conn, err
}

// takeAny takes a connection of the node's pool. One to a node that was the
// primary, and is not any more, may have been made after those that led there
// were closed: it is given back.
func (c *call) takeAny() (front.Connection, error) {
	ctx, stay := c.ctx, c.node.stay.Load()
	if c.node.inFlight.Load() > int64(c.node.config.pool.MaxConns) {
		wait, stop := stay.while(ctx)
		defer stop()
		if c.outdated() { // since before the stay began
			return nil, errOutdated
		}
		ctx = wait
	}
	conn, err := c.take(ctx, c.node.pool)
	switch {
	case err != nil && stay.context.Err() != nil && c.ctx.Err() == nil:
		return nil, errOutdated
	case err == nil && c.outdated():
		conn.Release()
		return nil, errOutdated
	}
	return conn, err
}

// takePlain takes a connection as the pool gives it.
func takePlain(ctx context.Context, pool *pgxpool.Pool) (front.Connection, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err // not a nil pointer that is no nil interface
	}
	return conn, nil
}

// outdated reports whether the node is not any more what it was when the call
// chose it. A new connection is checked to lead to the run of the server that was
// seen last, and that may be a newer one, which shows less. And of a node that was
// the primary, and is not, what is read is long past, and what is written is lost.
func (c *call) outdated() bool {
	v := c.db.watch.View()
	if v == c.view {
		return false
	}
	if then, now := &c.view.Nodes[c.node.place], c.db.seen(c.node); now != nil &&
		(now.Incarnation != then.Incarnation || now.Role == then.Role && now.Role != topology.Primary && now.Position.LSN < then.Position.LSN) {
		return true
	}
	if c.role() != topology.Primary || c.req.Target == route.ToNode {
		return false
	}
	return v.SplitBrain || v.Primary != topology.NoNode && v.Nodes[v.Primary].ID != c.node.id
}

// errOutdated means that a call has to choose again.
var errOutdated = errors.New("it hangs, was restarted, or another node is the primary now")

// bury closes a dead connection at once: there is nobody to say goodbye to.
func bury(conn front.Connection) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Conn().Close(ended)
	conn.Release()
}

// lend notes what the attempt's connection is used for.
func (c *call) lend() {
	c.link, c.began = linkOf(c.conn.Conn().PgConn()), 0
	use := holding
	if c.req.Write == route.ReasonNone && !c.calls {
		use = reading
	}
	since := time.Duration(0)
	if !c.begin && (use == reading || c.role().Follows()) {
		since = c.db.watch.Now()
	}
	if c.link != nil {
		c.link.since.Store(int64(since))
		c.link.use.Store(uint32(use))
	}
	if c.role().Follows() {
		c.began = since
	}
}
