package pgtidetest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

// asserted returns what an assert says of f to a test of its own.
func asserted(t *testing.T, assert func(testing.TB, func()), f func(ctx context.Context)) *victim {
	t.Helper()
	return suffer(t, func(tb testing.TB) { assert(tb, func() { f(pgtide.NewSession(t.Context())) }) })
}

func execute(t *testing.T, tide *pgtidetest.Tide, sql string) func(context.Context) {
	return func(ctx context.Context) {
		t.Helper()
		if _, err := tide.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
}

func TestServedBy(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	ctx := pgtide.NewSession(t.Context())
	execute(t, tide, "insert into message values ('a')")(ctx)
	if d := pgtidetest.ServedBy(t, ctx, pgtide.RolePrimary); d.Reason != pgtide.ReasonWrite {
		t.Errorf("decision %v, want that of the write", d)
	}
	wantFatal(t, func(tb testing.TB) { pgtidetest.ServedBy(tb, ctx, pgtide.RoleReplica) }, "node1 (primary): write", "want the replica")
	wantFatal(t, func(tb testing.TB) { pgtidetest.ServedBy(tb, t.Context(), pgtide.RoleReplica) }, "pgtide.NewSession")
	wantFatal(t, func(tb testing.TB) { pgtidetest.ServedBy(tb, pgtide.NewSession(ctx), pgtide.RoleReplica) }, "has made no call")
	tide.WaitReplicas(t.Context())
	execute(t, tide, "select 1")(pgtide.OnReplica(ctx))
	pgtidetest.ServedBy(t, ctx, pgtide.RoleReplica)
}

func TestNoPrimaryReads(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	for name, f := range map[string]func(context.Context){
		"replica": execute(t, tide, "select 1"),
		"write":   execute(t, tide, "insert into message values ('a')"),
		"transaction": func(ctx context.Context) {
			if err := pgx.BeginFunc(ctx, tide, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "select 1")
				return err
			}); err != nil {
				t.Error(err)
			}
		},
	} {
		if v := asserted(t, tide.NoPrimaryReads, f); v.Failed() {
			t.Errorf("%s: %s", name, v.text.String())
		}
	}
	tide.Freeze()
	write(t, tide, "b")
	for name, f := range map[string]func(context.Context){
		"forced": func(ctx context.Context) { execute(t, tide, "select 'forced'")(pgtide.OnPrimary(ctx)) },
		"lagging": func(ctx context.Context) {
			execute(t, tide, "insert into message values ('c')")(ctx)
			execute(t, tide, "select 'lagging'")(ctx)
		},
	} {
		v := asserted(t, tide.NoPrimaryReads, f)
		if !v.Failed() {
			t.Errorf("%s: no complaint", name)
		}
		wantText(t, v.text.String(), "1 reads went to the primary", "asserts_test.go:", name)
	}
}

func TestNoWrites(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.NewWith(t, pgtidetest.Options{Schema: schema + `;
		create function sneak() returns int language sql as $$ insert into message values ('sneak') returning 1 $$`})
	for name, f := range map[string]func(context.Context){
		"read": execute(t, tide, "select count(*) from message"),
		"read on the primary": func(ctx context.Context) {
			execute(t, tide, "select count(*) from message")(pgtide.OnPrimary(ctx))
		},
		"read-only transaction": func(ctx context.Context) {
			if err := pgx.BeginTxFunc(ctx, tide, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error { return nil }); err != nil {
				t.Error(err)
			}
		},
	} {
		if v := asserted(t, tide.NoWrites, f); v.Failed() {
			t.Errorf("%s: %s", name, v.text.String())
		}
	}
	for name, c := range map[string]struct {
		f    func(context.Context)
		want string
	}{
		"insert":   {execute(t, tide, "insert into message values ('a')"), "1 statements wrote"},
		"function": {execute(t, tide, "select sneak()"), "1 transactions wrote"},
		"rolled back": {func(ctx context.Context) {
			tx, err := tide.Begin(ctx)
			if err == nil {
				_, err = tx.Exec(ctx, "delete from message")
			}
			if err != nil {
				t.Error(err)
			}
			tx.Rollback(ctx)
		}, "delete from message"},
		"database/sql": {func(ctx context.Context) {
			if _, err := tide.SQL().ExecContext(ctx, "update message set id = id || 'x'"); err != nil {
				t.Error(err)
			}
		}, "update message"},
		"past pgtide": {func(ctx context.Context) {
			if _, err := tide.Connect(tide.Primary()).Exec(ctx, "create table past ()"); err != nil {
				t.Error(err)
			}
		}, "1 transactions wrote"},
	} {
		v := asserted(t, tide.NoWrites, c.f)
		if !v.Failed() {
			t.Errorf("%s: no complaint", name)
		}
		wantText(t, v.text.String(), c.want)
	}
}

// The trace names the line that made a call, in whatever way it was made, and
// where each statement went.
func TestTrace(t *testing.T) {
	t.Parallel()
	v := suffer(t, func(tb testing.TB) {
		tide := pgtidetest.New(tb)
		ctx := pgtide.NewSession(tb.Context())
		execute(t, tide, "insert into message values ('exec')")(ctx)
		var n int
		if err := tide.SQL().QueryRowContext(ctx, "select 1 as by_database_sql").Scan(&n); err != nil {
			t.Error(err)
		}
		if err := pgx.BeginFunc(ctx, tide, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select 1 as in_transaction")
			return err
		}); err != nil {
			t.Error(err)
		}
		var b pgx.Batch
		b.Queue("select 1 as in_batch")
		b.Queue("select 2 as in_batch")
		if err := tide.SendBatch(ctx, &b).Close(); err != nil {
			t.Error(err)
		}
		if _, err := tide.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"id"}, pgx.CopyFromRows([][]any{{"copied"}})); err != nil {
			t.Error(err)
		}
		if _, err := tide.Exec(ctx, "select nothing"); err == nil {
			t.Error("no error")
		}
		tb.Errorf("now show it")
	})
	wantText(t, v.text.String(),
		"node1 (primary): write, insert  insert into message values ('exec')  → INSERT 0 1",
		"select 1 as by_database_sql  → SELECT 1",
		"node1: in a transaction or on a connection  select 1 as in_transaction  → SELECT 1",
		"select 1 as in_batch; select 2 as in_batch  → SELECT 1; SELECT 1",
		`copy "message" from stdin  → COPY 1`,
		`→ ERROR: column "nothing" does not exist`,
		"asserts_test.go:", "the last 8 routed statements")
}
