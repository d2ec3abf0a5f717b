package pgtide_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// noticed is how long a node that stopped answering may stay in use with
// default options.
const noticed = 1500 * time.Millisecond

// endure bounds calls that must end by themselves: far more than they need,
// far less than what a driver waits for a server that hangs.
const endure = 8 * time.Second

// stuck is a read that never ends on a replica, and at once on a primary.
const stuck = "select pg_sleep(case when pg_is_in_recovery() then 3600 else 0 end)::text"

// asleep returns once n server sessions of a node sleep.
func asleep(t *testing.T, node *lab.Node, n int) {
	t.Helper()
	super := supervisor(t, node)
	until(t, "calls to be under way at "+node.Name(), func() bool {
		var found int
		if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where wait_event = 'PgSleep'").Scan(&found); err != nil {
			t.Fatal(err)
		}
		return found >= n
	})
}

// supervisor connects to a node as its superuser until the end of the test.
func supervisor(t *testing.T, node *lab.Node) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), node.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background()) // the server may be frozen
		cancel()
		conn.Close(ended)
	})
	return conn
}

// answer is how a call ended.
type answer struct {
	name string
	ctx  context.Context
	err  error
}

// begin makes calls, each in a session of its own and without a deadline.
func begin(t *testing.T, calls map[string]func(context.Context) error) <-chan answer {
	answers := make(chan answer, len(calls))
	for name, call := range calls {
		ctx := pgtide.NewSession(t.Context())
		go func() { answers <- answer{name, ctx, call(ctx)} }()
	}
	return answers
}

// collect returns the answers to n calls, and fails the test if one takes longer
// than calls may endure.
func collect(t *testing.T, answers <-chan answer, n int) []answer {
	t.Helper()
	var got []answer
	deadline := time.After(endure)
	for len(got) < n {
		select {
		case a := <-answers:
			got = append(got, a)
		case <-deadline:
			var names []string
			for _, a := range got {
				names = append(names, a.name)
			}
			t.Fatalf("after %v only %d of %d calls have ended: %v", endure, len(got), n, names)
		}
	}
	return got
}

// poolOf makes each node's pool that big.
func poolOf(size int) func(string, *pgxpool.Config) error {
	return func(_ string, c *pgxpool.Config) error {
		c.MaxConns = int32(size)
		return nil
	}
}

func TestReadsOnAFrozenReplicaEndElsewhere(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	const size = 8 // of the pool: as many as there are calls
	db := open(t, c, pgtide.Options{Configure: poolOf(size)})
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close() })
	moved := map[string]func(context.Context) error{
		"query row": func(ctx context.Context) error {
			var text string
			return db.QueryRow(ctx, stuck).Scan(&text)
		},
		"query": func(ctx context.Context) error {
			rows, err := db.Query(ctx, stuck)
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return rows.Err()
		},
		"exec": func(ctx context.Context) error {
			_, err := db.Exec(ctx, stuck)
			return err
		},
		"simple protocol": func(ctx context.Context) error {
			_, err := db.Exec(ctx, stuck, pgx.QueryExecModeSimpleProtocol)
			return err
		},
		"batch": func(ctx context.Context) error {
			b := &pgx.Batch{}
			b.Queue(stuck)
			b.Queue("select 1")
			return db.SendBatch(ctx, b).Close()
		},
		"database/sql": func(ctx context.Context) error {
			var text string
			return sqldb.QueryRowContext(ctx, stuck).Scan(&text)
		},
	}
	ended := map[string]func(context.Context) error{
		"transaction": func(ctx context.Context) error {
			return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, stuck)
				return err
			})
		},
		"database/sql transaction": func(ctx context.Context) error {
			tx, err := sqldb.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			defer tx.Rollback()
			var text string
			return tx.QueryRowContext(ctx, stuck).Scan(&text)
		},
	}
	calls := maps.Clone(moved)
	maps.Copy(calls, ended)
	answers := begin(t, calls)
	asleep(t, replica, size)
	// The pool is full: these wait for a place in it.
	waiting := begin(t, map[string]func(context.Context) error{"waiting": moved["exec"], "waiting too": moved["database/sql"]})
	until(t, "calls to wait for a connection", func() bool { return db.Stat().Nodes[1].InFlight == size+2 })

	if err := replica.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "new calls to go elsewhere", func() bool { return db.Nodes()[1].State == "down" })
	if d := time.Since(began); d > noticed {
		t.Errorf("a frozen replica was in use for %v, want %v at most", d, noticed)
	}
	fresh := pgtide.NewSession(t.Context())
	if _, err := db.Exec(fresh, "select 1"); err != nil || last(t, fresh).Attempt != 1 || last(t, fresh).Role != pgtide.RolePrimary {
		t.Errorf("new call: %v, decisions %v; want it at the primary at once", err, pgtide.Explain(fresh))
	}
	got := append(collect(t, answers, size), collect(t, waiting, 2)...)
	t.Logf("all calls had ended %v after the replica froze", time.Since(began).Round(time.Millisecond))
	for _, a := range got {
		if _, ok := ended[a.name]; ok {
			if a.err == nil || pgtide.OutcomeUnknown(a.err) {
				t.Errorf("%s: %v, want the error of a broken connection", a.name, a.err)
			}
			continue
		}
		if d := last(t, a.ctx); a.err != nil || d.Node != c.Primary().Name() || d.Attempt < 2 {
			t.Errorf("%s: %v; decisions %v; want the read made again at the primary", a.name, a.err, pgtide.Explain(a.ctx))
		}
	}

	if err := replica.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be used again", func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	})
}

// stuckInsert is a write that never ends on the first primary.
const stuckInsert = "insert into message (text) select $1 from pg_sleep(case when current_setting('cluster_name') = 'node1' then 3600 else 0 end)"

func TestCallsOnAFrozenPrimaryEndWithItsReplacement(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	old, next := c.Primary(), c.Replicas()[0]
	db := open(t, c, pgtide.Options{Configure: poolOf(4), FailoverWait: time.Minute})
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close() })
	unanswered := map[string]func(context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := db.Exec(ctx, stuckInsert, "exec")
			return err
		},
		"database/sql": func(ctx context.Context) error {
			_, err := sqldb.ExecContext(ctx, stuckInsert, "database/sql")
			return err
		},
		"function": func(ctx context.Context) error {
			// It looks like a read, and may write all the same.
			_, err := db.Exec(ctx, "select write_message($1), pg_sleep(case when current_setting('cluster_name') = 'node1' then 3600 else 0 end)", "function")
			return err
		},
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	insert(t, t.Context(), tx, "in the transaction")
	answers := begin(t, unanswered)
	asleep(t, old, len(unanswered))
	waiting := begin(t, map[string]func(context.Context) error{
		"waiting": func(ctx context.Context) error {
			_, err := db.Exec(ctx, "insert into message (text) values ('waiting')")
			return err
		},
		"waiting transaction": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into message (text) values ('waiting transaction')")
				return err
			})
		},
		"waiting database/sql": func(ctx context.Context) error {
			_, err := sqldb.ExecContext(ctx, "insert into message (text) values ($1)", "waiting database/sql")
			return err
		},
	})
	until(t, "calls to wait for a connection", func() bool { return db.Stat().Nodes[0].InFlight == int64(len(unanswered))+1+3 })

	if err := old.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the frozen primary to be called down", func() bool { return db.Nodes()[0].State == "down" })
	select {
	case a := <-answers:
		t.Errorf("%s at a primary that may be merely slow ended with %v before there was another", a.name, a.err)
	default:
	}
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, a := range collect(t, answers, len(unanswered)) {
		var unknown *pgtide.OutcomeUnknownError
		if !errors.As(a.err, &unknown) || unknown.Node != old.Name() {
			t.Errorf("%s: %v, want ErrOutcomeUnknown of %s", a.name, a.err, old.Name())
		}
	}
	for _, a := range collect(t, waiting, 3) {
		if a.err != nil {
			t.Errorf("%s: %v; decisions %v; want it at the new primary, it was never sent", a.name, a.err, pgtide.Explain(a.ctx))
		}
	}
	t.Logf("all calls had ended %v after the promotion", time.Since(began).Round(time.Millisecond))
	if _, err := tx.Exec(t.Context(), "select 1"); err == nil {
		t.Error("a transaction goes on at a primary that was replaced")
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("a transaction of the primary that was replaced commits")
	}
	for text, want := range map[string]int{
		"exec": 0, "database/sql": 0, "function": 0, "in the transaction": 0,
		"waiting": 1, "waiting transaction": 1, "waiting database/sql": 1,
	} {
		if n := count(t, db, text); n != want {
			t.Errorf("%q was written %d times at the new primary, want %d", text, n, want)
		}
	}
	// Once it goes on, the server that was replaced is nobody's primary.
	if err := old.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the old primary to answer", func() bool { return db.Nodes()[0].State == "up" })
	for range 20 {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "afterwards"))
		for _, d := range pgtide.Explain(ctx) {
			if d.Node == old.Name() {
				t.Fatalf("a call went to the old primary after its return: %v", d)
			}
		}
	}
}
