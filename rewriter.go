package pgtide

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/route"
)

// seenRewriter is a query rewriter that shows what it makes before it is sent.
type seenRewriter struct {
	pgx.QueryRewriter
	see func(sql string) error
}

// RewriteQuery implements [pgx.QueryRewriter].
func (r seenRewriter) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (string, []any, error) {
	sql, args, err := r.QueryRewriter.RewriteQuery(ctx, conn, sql, args)
	if err == nil {
		err = r.see(sql)
	}
	return sql, args, err
}

// showing returns args, which are rewritten, with rewriters that show to see what
// they make.
func showing(args []any, see func(sql string) error) []any {
	args = slices.Clone(args)
	for i := range args {
		switch a := args[i].(type) {
		case pgx.QueryRewriter:
			args[i] = seenRewriter{a, see}
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		default:
			return args // options come before parameters
		}
	}
	return args
}

// shown returns args for the call's own statement: what it may leave shows when it
// is rewritten.
func (c *call) shown(args []any) []any {
	if !rewritten(args) {
		return args
	}
	return showing(args, func(sql string) error {
		c.leaves = c.leaves || c.db.kinds.Classify(sql).Leaves
		return nil
	})
}

// furtherArgs is further for a statement with arguments, and returns those to send
// it with.
func (c *call) furtherArgs(ctx context.Context, sql string, args []any) ([]any, error) {
	if !rewritten(args) {
		return args, c.further(ctx, sql)
	}
	return showing(args, func(sql string) error { return c.further(ctx, sql) }), nil
}

// furtherRewritten is further for a statement that nobody gets to see.
func (c *call) furtherRewritten(ctx context.Context) error {
	c.leaves = true
	return c.db.guard(ctx, c.db.guardOf(scopeOf(ctx)), route.Unclassified, "query rewriter")
}
