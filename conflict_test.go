package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// overtaken reports whether db writes to another node than old, which still
// answers.
func overtaken(db *pgtide.DB, old *lab.Node) bool {
	replaced, answers := false, false
	for _, n := range db.Nodes() {
		replaced = replaced || n.Writable && n.Name != old.Name()
		answers = answers || n.State == "up" && n.Name == old.Name()
	}
	return replaced && answers
}

func TestNothingIsCommittedAtAPrimaryThatWasOvertaken(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	old, next := c.Primary(), c.Replicas()[0]
	const size = 8
	acted := make(chan struct{}) // closed once db has acted on the promotion
	db := open(t, c, pgtide.Options{Configure: poolOf(size), Hooks: pgtide.Hooks{OnPrimary: func(_, after string, _ bool) {
		if after == next.Name() {
			close(acted)
		}
	}}})
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close() })
	const write = "insert into message (text) values ($1)"

	// Each holds a connection to the primary that is about to be overtaken, and
	// tries to write on it afterwards.
	held := map[string]func() (write func() error, release func()){
		"transaction": func() (func() error, func()) {
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			insert(t, t.Context(), tx, "transaction")
			return func() error { return tx.Commit(t.Context()) }, func() { tx.Rollback(context.Background()) }
		},
		"batch in a transaction": func() (func() error, func()) {
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				b := &pgx.Batch{}
				b.Queue(write, "batch in a transaction")
				b.Queue("commit")
				return tx.SendBatch(t.Context(), b).Close()
			}, func() { tx.Rollback(context.Background()) }
		},
		"connection": func() (func() error, func()) {
			conn, err := db.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := conn.Exec(t.Context(), write, "connection")
				return err
			}, conn.Release
		},
		"raw connection": func() (func() error, func()) {
			conn, err := db.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := conn.Conn().Exec(t.Context(), write, "raw connection")
				return err
			}, conn.Release
		},
		"hijacked connection": func() (func() error, func()) {
			acquired, err := db.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conn := acquired.Hijack()
			return func() error {
				_, err := conn.Exec(t.Context(), write, "hijacked connection")
				return err
			}, func() { conn.Close(context.Background()) }
		},
		"database/sql transaction": func() (func() error, func()) {
			tx, err := sqldb.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(write, "database/sql transaction"); err != nil {
				t.Fatal(err)
			}
			return tx.Commit, func() { tx.Rollback() }
		},
		"database/sql connection": func() (func() error, func()) {
			conn, err := sqldb.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.ExecContext(t.Context(), "set statement_timeout = '1min'"); err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := conn.ExecContext(t.Context(), write, "database/sql connection")
				return err
			}, func() { conn.Close() }
		},
		"primary pool": func() (func() error, func()) {
			pool, err := db.PrimaryPool()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				_, err := conn.Exec(t.Context(), write, "primary pool")
				return err
			}, conn.Release
		},
	}
	writes := map[string]func() error{}
	for name, hold := range held {
		write, release := hold()
		defer release()
		writes[name] = write
	}
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-acted:
	case <-time.After(endure):
		t.Fatal("the promotion is not seen")
	}
	until(t, "the old primary to be seen beside it", func() bool { return overtaken(db, old) })
	for name, write := range writes {
		err := write()
		if err == nil {
			t.Errorf("%s: a write at the overtaken primary is acknowledged", name)
		}
		var pg *pgconn.PgError
		if errors.As(err, &pg) {
			t.Errorf("%s: %v, which the overtaken primary said: want a broken connection", name, err)
		}
	}
	direct, err := pgx.Connect(t.Context(), old.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(t.Context())
	var written []string
	if err := direct.QueryRow(t.Context(), "select array_agg(text) from message").Scan(&written); err != nil || len(written) > 0 {
		t.Errorf("%q were written to the overtaken primary (%v), want nothing", written, err)
	}
}

func TestCallsThatWaitForAConnectionDoNotReachAnOvertakenPrimary(t *testing.T) {
	t.Parallel()
	for name, release := range map[string]bool{"place given back": true, "place kept": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waitForOvertaken(t, release)
		})
	}
}

// waitForOvertaken has calls wait for the one connection to a primary while it
// is overtaken, and then gives the connection back or keeps it.
func waitForOvertaken(t *testing.T, release bool) {
	c := start(t, lab.Options{Replicas: 1})
	old, next := c.Primary(), c.Replicas()[0]
	db := open(t, c, pgtide.Options{Configure: poolOf(1)})
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close() })
	holder, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	// The one place is taken: these chose the primary while it was one, and will
	// have their connection when it is not.
	calls := map[string]func(context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := db.Exec(ctx, "insert into message (text) values ($1)", "exec")
			return err
		},
		"transaction": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into message (text) values ($1)", "transaction")
				return err
			})
		},
		"connection": func(ctx context.Context) error {
			return db.AcquireFunc(ctx, func(conn *pgtide.Conn) error {
				_, err := conn.Exec(ctx, "insert into message (text) values ($1)", "connection")
				return err
			})
		},
		"database/sql": func(ctx context.Context) error {
			_, err := sqldb.ExecContext(ctx, "insert into message (text) values ($1)", "database/sql")
			return err
		},
		"strong read": func(ctx context.Context) error {
			var timeline string
			ctx = pgtide.WithConsistency(ctx, pgtide.Strong)
			err := db.QueryRow(ctx, "select substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)").Scan(&timeline)
			if err == nil && timeline != "00000002" {
				err = fmt.Errorf("it was made on timeline %s", timeline)
			}
			return err
		},
	}
	answers := begin(t, calls)
	until(t, "calls to wait for a connection", func() bool { return db.Stat().Nodes[0].InFlight == int64(len(calls))+1 })
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	if release {
		until(t, "the promotion to be seen", func() bool { return overtaken(db, old) })
		holder.Release()
	}
	for _, a := range collect(t, answers, len(calls)) {
		if a.err != nil {
			t.Errorf("%s: %v; decisions %v", a.name, a.err, pgtide.Explain(a.ctx))
		}
		if d := last(t, a.ctx); a.name != "connection" && d.Reason != pgtide.ReasonPinned && d.Node != next.Name() {
			t.Errorf("%s: it was made at %v, want %s", a.name, d, next.Name())
		}
	}
	direct, err := pgx.Connect(t.Context(), old.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(t.Context())
	var n int
	if err := direct.QueryRow(t.Context(), "select count(*) from message").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows were written to the overtaken primary (%v), want none", n, err)
	}
}

func TestReadsThatReplayCancels(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1, Settings: map[string]string{"max_standby_streaming_delay": "0", "autovacuum": "off"}})
	replica := c.Replicas()[0]
	db := open(t, c, pgtide.Options{Configure: poolOf(6)}) // one for each call
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close() })
	const (
		long = "select count(*) from message, pg_sleep(case when pg_is_in_recovery() then 3600 else 0 end)"
		// Rows reach the caller before the statement ends: the server sends what
		// fills a buffer.
		rows = `select repeat('x', 1000), case when i = 100 and pg_is_in_recovery() then pg_sleep(3600)::text end
		          from generate_series(1, 200) i where exists (select from message)`
	)
	again := map[string]func(context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := db.Exec(ctx, long)
			return err
		},
		"query row": func(ctx context.Context) error {
			var n int
			return db.QueryRow(ctx, long).Scan(&n)
		},
		"database/sql": func(ctx context.Context) error {
			var n int
			return sqldb.QueryRowContext(ctx, long).Scan(&n)
		},
	}
	told := map[string]func(context.Context) error{
		"rows": func(ctx context.Context) error {
			rows, err := db.Query(ctx, rows)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
		"database/sql rows": func(ctx context.Context) error {
			rows, err := sqldb.QueryContext(ctx, rows)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
		"transaction": func(ctx context.Context) error {
			return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, long)
				return err
			})
		},
	}
	calls := maps.Clone(again)
	maps.Copy(calls, told)
	for name, cancel := range map[string][]string{
		"a lock":          {"truncate message", "insert into message (text) values ('x')"},
		"rows cleaned up": {"delete from message", "vacuum message", "insert into message (text) values ('x')"},
	} {
		insert(t, t.Context(), db, "what is read")
		if err := c.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := db.Stat().Nodes[1].Conflicts
		answers := begin(t, calls)
		asleep(t, replica, len(calls))
		must(t, supervisor(t, c.Primary()), cancel...)
		for _, a := range collect(t, answers, len(calls)) {
			if _, ok := again[a.name]; ok && (a.err != nil || last(t, a.ctx).Attempt != 2) {
				t.Errorf("%s, cancelled by %s: %v; decisions %v; want it made again", a.name, name, a.err, pgtide.Explain(a.ctx))
			} else if !ok && !says(a.err, "40001") {
				t.Errorf("%s, cancelled by %s: %v; want what the server says", a.name, name, a.err)
			}
		}
		// What runs in a transaction is not looked at.
		if got, want := db.Stat().Nodes[1].Conflicts-before, int64(len(calls)-1); got != want {
			t.Errorf("%d conflicts are counted of the calls cancelled by %s, want %d", got, name, want)
		}
	}
	if n := db.Nodes()[1]; n.State != "up" {
		t.Errorf("the replica is %s after conflicts, want up", n.State)
	}
}
