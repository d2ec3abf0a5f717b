package pgtide

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
)

// Exec runs a statement where it belongs and returns its command tag. See the
// package comment for where that is, and for the errors of every call.
func (db *DB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	c := db.statement(ctx, sql, rewritten(args))
	defer c.abandon()
	args = c.shown(args)
	for {
		if err := c.acquire(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
		c.arm(stamp.Query)
		tag, err := c.conn.Conn().Exec(c.ctx, sql, args...)
		again, err := c.done(err)
		if !again {
			return tag, err
		}
	}
}

// CopyFrom copies rows into a table on the primary. It is never begun again
// once rows were read from rowSrc.
func (db *DB) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rowSrc pgx.CopyFromSource) (int64, error) {
	c := db.newCall(ctx, route.Write)
	c.detail = "COPY"
	defer c.abandon()
	src := &copySource{CopyFromSource: rowSrc}
	for {
		if err := c.acquire(ctx); err != nil {
			return 0, err
		}
		c.arm(stamp.Copy)
		n, err := c.conn.Conn().CopyFrom(c.ctx, table, columns, src)
		c.handed = src.read
		again, err := c.done(err)
		if !again {
			return n, err
		}
	}
}

// copySource notes whether any row was taken: rows cannot be put back.
type copySource struct {
	pgx.CopyFromSource
	read bool
}

func (s *copySource) Next() bool {
	s.read = true
	return s.CopyFromSource.Next()
}

// Ping asks the primary, or the node that ctx names, for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	c := db.newCall(ctx, route.Transaction)
	c.begin, c.allowed = true, GuardOff // it reads nothing
	for {
		if err := c.acquire(ctx); err != nil {
			return err
		}
		again, err := c.done(c.conn.Conn().Ping(c.ctx))
		if !again {
			return err
		}
	}
}
