package pgtidetest_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

// Each case says what the code does on a primary and a replica, and what the finder
// has to say of it: the marks of the lines, in order.
func TestFinderCases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(t testing.TB, n *naive, tide *pgtidetest.Tide)
		want []string
	}{
		"read before write": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			query(t, n.replica, "select id from message")
			apply(t, n.primary, "insert into message values ('a')")
		}, nil},
		"write undone": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			tx, err := n.primary.Begin(t.Context())
			must(t, err)
			apply(t, tx, "insert into message values ('a')")
			must(t, tx.Rollback(t.Context()))
			query(t, n.replica, "select id from message")
		}, nil},
		"write refused": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			if _, err := n.primary.Exec(t.Context(), "insert into message values (null)"); err == nil {
				t.Error("null is taken for an id")
			}
			query(t, n.replica, "select id from message")
		}, nil},
		"write of no row": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "delete from message where id = 'none'")
			query(t, n.replica, "select id from message")
		}, nil},
		"write not committed yet": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			tx, err := n.primary.Begin(t.Context())
			must(t, err)
			apply(t, tx, "insert into message values ('a')")
			query(t, n.replica, "select id from message")
			must(t, tx.Commit(t.Context()))
			query(t, n.replica, "select id from message") // committed
		}, []string{"// committed"}},
		"other table": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			query(t, n.replica, "select id from other") // other
		}, []string{"// other"}},
		"several lines": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			query(t, n.replica, "select id from message") // first
			for range 3 {
				query(t, n.replica, "select count(*) from message") // loop
			}
			query(t, n.primary, "select id from message")
		}, []string{"// first", "// loop"}},
		"function that writes": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			query(t, n.primary, "select sneak()")
			query(t, n.replica, "select id from message") // sneaked
			query(t, n.replica, "select id from other")   // the same either way
		}, []string{"// sneaked"}},
		"function that does not": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			query(t, n.primary, "select peace()")
			query(t, n.replica, "select id from message")
		}, nil},
		"with": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			query(t, n.primary, "with i as (insert into message values ('a') returning id) select id from i")
			query(t, n.replica, "select id from message") // with
		}, []string{"// with"}},
		"copy": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			_, err := n.primary.CopyFrom(t.Context(), pgx.Identifier{"message"}, []string{"id"}, pgx.CopyFromRows([][]any{{"a"}}))
			must(t, err)
			query(t, n.replica, "table message") // copied
		}, []string{"// copied"}},
		"batch": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			var b pgx.Batch
			b.Queue("insert into message values ('a')")
			b.Queue("insert into message values ('b')")
			must(t, n.primary.SendBatch(t.Context(), &b).Close())
			b = pgx.Batch{}
			b.Queue("select id from message where id = $1", "a")
			b.Queue("select 1")
			must(t, n.replica.SendBatch(t.Context(), &b).Close()) // batch
		}, []string{"// batch"}},
		"simple protocol": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "begin; insert into message values ('a'); commit")
			query(t, n.replica, "select id from message", pgx.QueryExecModeSimpleProtocol) // simple
		}, []string{"// simple"}},
		"exec mode": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			query(t, n.replica, "select now(), id from message where id = $1", pgx.QueryExecModeExec, "a") // exec mode
		}, []string{"// exec mode"}},
		"new table": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "create table late (id text)")
			if rows, err := n.replica.Query(t.Context(), "select id from late"); err == nil { // no table
				rows.Close()
			}
		}, []string{"// no table"}},
		"set up": {func(t testing.TB, n *naive, tide *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			tide.Step()
			query(t, n.replica, "select id from message")
			apply(t, n.primary, "insert into message values ('b')")
			query(t, n.replica, "select id from message") // after setting up
		}, []string{"// after setting up"}},
		"health": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			must(t, n.replica.Ping(t.Context()))
			query(t, n.replica, "select 1")
			query(t, n.replica, "select pg_is_in_recovery(), pg_last_wal_replay_lsn()")
			query(t, n.replica, "show server_version")
		}, nil},
		"many goroutines": {func(t testing.TB, n *naive, _ *pgtidetest.Tide) {
			apply(t, n.primary, "insert into message values ('a')")
			for range 3 { // pools open several connections at once
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() { query(t, n.replica, "select pg_sleep(0.001), id from message") }) // many
				}
				all.Wait()
			}
		}, []string{"// many"}},
		"pgtide by DSN": {func(t testing.TB, _ *naive, tide *pgtidetest.Tide) {
			var o pgtide.Options
			for _, name := range append(tide.Replicas(), tide.Primary()) {
				o.Nodes = append(o.Nodes, pgtide.Node{Name: name, DSN: tide.DSN(name)})
			}
			db, err := pgtide.Open(t.Context(), o)
			must(t, err)
			t.Cleanup(db.Close)
			query(t, db, "select id from message")
			apply(t, db, "insert into message values ('a')")
			query(t, db, "select id from message")
		}, nil},
		"pgtide, consistency eventual": {func(t testing.TB, _ *naive, tide *pgtidetest.Tide) {
			apply(t, tide, "insert into message values ('a')")
			rows, err := tide.Query(pgtide.WithConsistency(t.Context(), pgtide.Eventual), "select id from message") // eventual
			must(t, err)
			rows.Close()
		}, []string{"// eventual"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finder := pgtidetest.Finder{Options: &pgtidetest.Options{Schema: schema + `; create table other (id text);
				create function sneak() returns int language sql as $$ insert into message values ('sneak') returning 1 $$;
				create function peace() returns int language sql as $$ select 1 $$`}}
			report := finder.Find(t, func(t testing.TB, tide *pgtidetest.Tide) { c.do(t, openNaive(t, tide), tide) })
			if report.Frozen != "" || report.Fresh != "" {
				t.Fatalf("the case itself fails: %s %s", report.Frozen, report.Fresh)
			}
			if len(report.Findings) != len(c.want) {
				t.Fatalf("%d findings, want %d: %v\n%s", len(report.Findings), len(c.want), report.Findings, report.Trace)
			}
			for i, f := range report.Findings {
				wantAt(t, f, c.want[i])
			}
		})
	}
}
