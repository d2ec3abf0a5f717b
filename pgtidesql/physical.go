package pgtidesql

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgtide/pgtide/internal/front"
)

// physical takes one connection of a node's pool after the other, and is the
// last of them as pgx/stdlib sees it.
type physical struct {
	std    *stdlib.Conn
	pooled *pgxpool.Conn // nil when std itself gives the connection back
}

// Conn implements [front.Connection].
func (p *physical) Conn() *pgx.Conn { return p.std.Conn() }

// Release implements [front.Connection].
func (p *physical) Release() {
	if p.pooled == nil {
		_ = p.std.Close()
		return
	}
	p.pooled.Release()
}

// customData is where a driver's connection keeps its *stdlib.Conn.
const customData = "pgtidesql"

// take implements [front.Take].
//
// To make a *stdlib.Conn and to close it costs more than all the rest of a call,
// and it keeps nothing of its own: there is one for the life of a connection.
// stdlib makes it with a connection out of the pool, and closing it gives that
// back, no more.
func (p *physical) take(ctx context.Context, pool *pgxpool.Pool) (front.Connection, error) {
	pooled, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if std, ok := pooled.Conn().PgConn().CustomData()[customData].(*stdlib.Conn); ok {
		p.std, p.pooled = std, pooled
		return p, nil
	}
	pooled.Release() // stdlib takes its own
	c, err := stdlib.GetPoolConnector(pool).Connect(ctx)
	if err != nil {
		return nil, err
	}
	std, ok := c.(*stdlib.Conn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("pgtidesql: pgx/stdlib gave a %T", c)
	}
	std.Conn().PgConn().CustomData()[customData] = std
	p.std, p.pooled = std, nil
	return p, nil
}

// attempts makes a call: do uses the connection of each attempt. On success
// keep decides whether the connection is held instead of being given back.
func attempts(ctx context.Context, call front.Call, p *physical, do func(context.Context, *physical) error, keep bool) error {
	for {
		attempt, err := call.Acquire(ctx)
		if err != nil {
			return err
		}
		done := false
		func() {
			defer func() {
				if !done { // an argument that panics while it is encoded
					_, _ = call.Done(context.Canceled)
				}
			}()
			err = do(attempt, p)
			done = true
		}()
		if err == nil && keep {
			return nil
		}
		again, err := call.Done(err)
		if !again {
			return clean(err)
		}
	}
}

// clean keeps driver.ErrBadConn from database/sql: it would make the call again,
// after pgtide has said that there is nobody left to make it to.
func clean(err error) error {
	if err == driver.ErrBadConn {
		return errBroken
	}
	return err
}

var errBroken = fmt.Errorf("pgtidesql: the connection is broken")

// rewritten reports whether args have pgx send another statement than the text.
func rewritten(args []driver.NamedValue) bool {
	return front.Rewritten(len(args), func(i int) any { return args[i].Value })
}

// pgxOptions are o in pgx's words.
func pgxOptions(o driver.TxOptions) (out pgx.TxOptions, err error) {
	out.IsoLevel, err = isolation(o.Isolation)
	if o.ReadOnly {
		out.AccessMode = pgx.ReadOnly
	}
	return out, err
}
