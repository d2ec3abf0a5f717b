package pgtide

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/route"
)

// pin notes a call that stays on the node of its transaction or connection.
func (c *call) pin() {
	d := c.decision
	d.Reason, d.Detail, d.Waited = ReasonPinned, "", 0
	c.db.stat.decided(route.Pinned)
	if c.state != nil {
		c.state.session.record(d)
	}
}

// pinned is a transaction whose statements are noted on the call that holds its
// connection.
type pinned struct {
	pgx.Tx
	call *call
}

// statement notes a statement of the transaction and returns the arguments to send
// it with, or an error if it must not be sent.
func (p *pinned) statement(ctx context.Context, sql string, args []any) ([]any, error) {
	p.call.pin()
	return p.call.furtherArgs(ctx, sql, args)
}

// Begin implements [pgx.Tx]: a savepoint.
func (p *pinned) Begin(ctx context.Context) (pgx.Tx, error) {
	t, err := p.Tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &pinned{t, p.call}, nil
}

// Prepare implements [pgx.Tx]. A statement's name does not show later what it
// leaves.
func (p *pinned) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	v := p.call.db.kinds.Classify(sql)
	p.call.leaves = p.call.leaves || v.Leaves
	if err := p.call.published(sql, v); err != nil {
		return nil, err
	}
	return p.Tx.Prepare(ctx, name, sql)
}

// Exec implements [pgx.Tx].
func (p *pinned) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	args, err := p.statement(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return p.Tx.Exec(ctx, sql, args...)
}

// Query implements [pgx.Tx].
func (p *pinned) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	args, err := p.statement(ctx, sql, args)
	if err != nil {
		return &rows{over: true, err: err}, err
	}
	return p.Tx.Query(ctx, sql, args...)
}

// QueryRow implements [pgx.Tx].
func (p *pinned) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	args, err := p.statement(ctx, sql, args)
	if err != nil {
		return (*row)(&rows{over: true, err: err})
	}
	return p.Tx.QueryRow(ctx, sql, args...)
}

// SendBatch implements [pgx.Tx].
func (p *pinned) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	p.call.pin()
	if err := p.call.furtherBatch(ctx, b); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return p.Tx.SendBatch(ctx, b)
}

// CopyFrom implements [pgx.Tx].
func (p *pinned) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rowSrc pgx.CopyFromSource) (int64, error) {
	p.call.pin()
	if err := p.call.furtherCopy(ctx); err != nil {
		return 0, err
	}
	return p.Tx.CopyFrom(ctx, table, columns, rowSrc)
}

// Conn implements [pgx.Tx]. What is done with the connection is not seen.
func (p *pinned) Conn() *pgx.Conn {
	p.call.leaves = true
	return p.Tx.Conn()
}
