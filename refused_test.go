package pgtide_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

func TestRefusedStatementIsRemembered(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	sql := "select write_message('remembered')"
	for range 2 {
		if _, err := db.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	var got []pgtide.Reason
	for _, d := range pgtide.Explain(ctx) {
		got = append(got, d.Reason)
	}
	if len(got) != 3 || got[1] != pgtide.ReasonRefused || got[2] != pgtide.ReasonWrite {
		t.Errorf("reasons are %v, want a replica, then %s, then %s without a replica", got, pgtide.ReasonRefused, pgtide.ReasonWrite)
	}
}

// TestReadsStayReads changes the result of a statement that replicas have prepared,
// and asks for a view that is not filled yet. Both are refused with codes that also
// stand for recovery, and neither is a write.
func TestReadsStayReads(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Guard: pgtide.GuardError, Configure: func(_ string, config *pgxpool.Config) error {
		config.MaxConns = 1
		return nil
	}})
	ctx := pgtide.NewSession(t.Context())
	change := func(sql string) {
		t.Helper()
		if _, err := db.Exec(pgtide.AllowWrites(ctx), sql); err != nil {
			t.Fatal(err)
		}
		token, err := db.CurrentToken(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.WaitFor(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	change("create table changed as select 1 as a")
	defer change("drop table changed cascade")
	change("create materialized view unfilled as select * from changed with no data")
	read := func(table string) error {
		rows, err := db.Query(ctx, "select * from "+table+" where a = $1", 1)
		for err == nil && rows.Next() {
		}
		return errors.Join(err, rows.Err())
	}
	for _, node := range db.Nodes() { // each replica has it prepared
		if node.Role != pgtide.RoleReplica {
			continue
		}
		rows, err := db.Query(pgtide.OnNode(ctx, node.Name), "select * from changed where a = $1", 1)
		if err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	change("alter table changed add column b int")
	if err := read("changed"); err != nil {
		t.Errorf("after a migration: %v", err)
	}
	if err := read("unfilled"); err == nil {
		t.Error("a view that is not filled was read")
	}
	change("refresh materialized view unfilled")
	for _, table := range []string{"changed", "unfilled"} {
		if err := read(table); err != nil || last(t, ctx).Role != pgtide.RoleReplica {
			t.Errorf("%s: %v (%v), want a replica", table, last(t, ctx), err)
		}
	}
}
