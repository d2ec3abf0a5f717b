package pgtide_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// instead is a query rewriter that sends itself whatever the text is.
type instead string

func (r instead) RewriteQuery(_ context.Context, _ *pgx.Conn, _ string, args []any) (string, []any, error) {
	return string(r), args, nil
}

// TestRewrittenStatements has texts of reads that become writes on their way.
func TestRewrittenStatements(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	const insert = instead("insert into message (text) values ($1)")
	for way, write := range map[string]func(ctx context.Context) error{
		"Exec": func(ctx context.Context) error {
			_, err := db.Exec(ctx, "select 'rewritten'", insert, "x")
			return err
		},
		"Query": func(ctx context.Context) error {
			rows, err := db.Query(ctx, "select 'rewritten'", pgx.QueryExecModeExec, insert, "x")
			rows.Close()
			return err
		},
		"SendBatch": func(ctx context.Context) error {
			b := &pgx.Batch{}
			b.Queue("select 'rewritten'", insert, "x")
			return db.SendBatch(ctx, b).Close()
		},
		"with the read text on the primary": func(ctx context.Context) error {
			_, err := db.Exec(pgtide.OnPrimary(ctx), "select 'rewritten'", insert, "x")
			return err
		},
	} {
		ctx := pgtide.NewSession(t.Context())
		if err := write(ctx); err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		if d := last(t, ctx); d.Role != pgtide.RolePrimary || d.Attempt != 1 {
			t.Errorf("%s: %v, want the primary at once", way, d)
		}
		if _, ok := pgtide.TokenFrom(ctx); !ok {
			t.Errorf("%s: the session has no token", way)
		}
	}
	// A standby that refuses what was made of a text says nothing of the text.
	if _, err := db.Exec(pgtide.OnReplica(pgtide.WithConsistency(t.Context(), pgtide.Eventual)), "select 'rewritten'", insert, "x"); err != nil {
		t.Error(err)
	}
	for _, args := range [][]any{nil, {pgx.NamedArgs{"a": 1}}, {pgx.QueryExecModeExec, pgx.StrictNamedArgs{}}} {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "select 'rewritten'", args...); err != nil {
			t.Error(err)
		}
		if d := last(t, ctx); d.Role != pgtide.RoleReplica {
			t.Errorf("the text itself with %v: %v, want a replica", args, d)
		}
	}
}
