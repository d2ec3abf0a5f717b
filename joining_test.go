package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// load runs calls of every kind until stop is called, which returns how many
// there were. None may see an error or miss what its session wrote.
func load(t *testing.T, db *pgtide.DB) (stop func() int64) {
	t.Helper()
	var done atomic.Bool
	var group sync.WaitGroup
	var calls atomic.Int64
	sqldb := pgtidesql.Open(db)
	run := func(what string, f func(ctx context.Context) error) {
		group.Go(func() {
			for !done.Load() && t.Context().Err() == nil {
				ctx := pgtide.NewSession(t.Context())
				if err := f(ctx); err != nil {
					t.Errorf("%s while nodes join and leave: %v; decisions %v", what, err, pgtide.Explain(ctx))
					return
				}
				calls.Add(1)
			}
		})
	}
	missing := func(n int) error {
		if n != 1 {
			return fmt.Errorf("%d rows of what was just written", n)
		}
		return nil
	}
	const write, find = "insert into message (text) values ('load') returning id", "select count(*) from message where id = $1"
	run("write and read", func(ctx context.Context) error {
		var id int64
		var n int
		if err := db.QueryRow(ctx, write).Scan(&id); err != nil {
			return err
		}
		if err := db.QueryRow(ctx, find, id).Scan(&n); err != nil {
			return err
		}
		return missing(n)
	})
	run("read without a session", func(context.Context) error {
		var n int
		return db.QueryRow(t.Context(), "select 1").Scan(&n)
	})
	run("rows", func(ctx context.Context) error {
		rows, err := db.Query(ctx, "select i, pg_sleep(0.001) from generate_series(1, 10) i")
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			n++
		}
		if rows.Err() == nil && n != 10 {
			return fmt.Errorf("%d rows, want 10", n)
		}
		return rows.Err()
	})
	run("transaction", func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			var id int64
			var n int
			if err := tx.QueryRow(ctx, write).Scan(&id); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "select pg_sleep(0.005)"); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, find, id).Scan(&n); err != nil {
				return err
			}
			return missing(n)
		})
	})
	run("read-only transaction", func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			for range 3 {
				if _, err := tx.Exec(ctx, "select pg_sleep(0.002)"); err != nil {
					return err
				}
			}
			return nil
		})
	})
	run("database/sql", func(ctx context.Context) error {
		var id int64
		var n int
		if err := sqldb.QueryRowContext(ctx, write).Scan(&id); err != nil {
			return err
		}
		if err := sqldb.QueryRowContext(ctx, find, id).Scan(&n); err != nil {
			return err
		}
		return missing(n)
	})
	run("transaction of database/sql", func(ctx context.Context) error {
		tx, err := sqldb.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, write); err != nil {
			return err
		}
		return tx.Commit()
	})
	run("rows of database/sql", func(ctx context.Context) error {
		rows, err := sqldb.QueryContext(ctx, "select i, pg_sleep(0.001)::text from generate_series(1, 5) i")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
		}
		return rows.Err()
	})
	return func() int64 {
		done.Store(true)
		group.Wait()
		if err := sqldb.Close(); err != nil {
			t.Error(err)
		}
		return calls.Load()
	}
}

func TestNodesJoinAndLeaveUnderLoad(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	p, b, d := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1})
	supers := map[string]*pgx.Conn{"p": superuser(t, p), "b": superuser(t, b), "d": superuser(t, d)}
	servers := map[string]*lab.Node{"p": p, "b": b, "d": d}
	stop := load(t, db)
	present := []string{"p", "b"}
	// A node's first letter is its server: d, then d1, is the same one anew.
	for _, next := range [][]string{
		{"p", "b", "d"}, // one joins
		{"p", "d"},      // one leaves
		{"p", "b"},      // one goes as another comes
		{"p"},           // no replica is left
		{"p", "d1", "b1"},
		{"p1", "d1", "b1"}, // the primary goes and comes
		{"b2", "p2", "d2"}, // all of them do
		{"p2"},
		{"b3", "d3", "p2"},
	} {
		var nodes []pgtide.Node
		for _, name := range next {
			nodes = append(nodes, called(servers[name[:1]], name))
		}
		dir.set(nil, nodes...)
		are(t, db, next...)
		for _, name := range present {
			if !slices.Contains(next, name) {
				until(t, "the connections of "+name+" to be closed", func() bool { return connections(t, supers[name[:1]], name) == 0 })
			}
		}
		for _, name := range next {
			if n := connections(t, supers[name[:1]], name); n == 0 {
				t.Errorf("no connection to %s", name)
			}
		}
		present = next
	}
	if n := stop(); n < 50 {
		t.Errorf("%d calls in all: too few to show anything", n)
	}
	s := db.Stat()
	if s.DiscoveryErrors != 0 || s.Discoveries < 10 || s.OutcomeUnknown != 0 {
		t.Errorf("%d discoveries, %d of them failed; %d outcomes unknown", s.Discoveries, s.DiscoveryErrors, s.OutcomeUnknown)
	}
	db.Close()
	for name, super := range supers {
		until(t, "all connections to "+name+" to be closed", func() bool {
			var n int
			if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name ~ '^[pbd][0-9]?$'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 0
		})
	}
}

func TestNodeLeavesBelowOpenCalls(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	p, b := c.Nodes()[0], c.Nodes()[1]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1})
	super := superuser(t, b)

	ctx := pgtide.NewSession(t.Context())
	rows, err := db.Query(pgtide.OnReplica(ctx), "select i, repeat('x', 1000) from generate_series(1, 10000) i")
	if err != nil || last(t, ctx).Node != "b" {
		t.Fatalf("%v; %v, want the replica", err, last(t, ctx))
	}
	tx, err := db.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Acquire(pgtide.OnNode(t.Context(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	dir.set(nil, called(p, "p"))
	are(t, db, "p")
	if n := len(db.Stat().Nodes); n != 1 {
		t.Errorf("Stat has %d nodes, want 1", n)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Err() != nil || n != 10000 {
		t.Errorf("%d rows of a node that left meanwhile, and %v; want 10000", n, rows.Err())
	}
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("statement of a transaction on a node that left: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("commit on a node that left: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("statement on a connection to a node that left: %v", err)
	}
	until(t, "all connections but the one in use to be closed", func() bool { return connections(t, super, "b") == 1 })
	if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("statement on the last connection to a node that left: %v", err)
	}
	conn.Release()
	until(t, "the last connection to be closed", func() bool { return connections(t, super, "b") == 0 })
	for range 3 {
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Node != "p" || d.Reason != pgtide.ReasonNoReplica || d.Attempt != 1 {
			t.Errorf("a read once the only replica has left: %v", d)
		}
	}
}

func TestPlaceOfANodeThatLeftIsAnothers(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	p, b, d := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	dir := &directory{}
	old := called(b, "old")
	old.Groups = []string{"reports"}
	dir.set(nil, called(p, "p"), old)
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1, WaitBudget: -1})
	id := insert(t, t.Context(), db, "hi")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx := pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Session)
	read(t, pgtide.OnReplica(ctx), db, id)
	until(t, "a read from the replica", func() bool {
		read(t, ctx, db, id)
		return last(t, ctx).Node == "old"
	})
	shown, ok := pgtide.TokenFrom(ctx)
	if !ok {
		t.Fatal("a session that has read carries nothing")
	}
	if !db.HasGroup("reports") {
		t.Error("the group is not known")
	}

	// The one that comes into its place shows nothing new.
	if err := d.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	newer := insert(t, t.Context(), db, "newer")
	until(t, "the old replica to show what is new", func() bool {
		var n int
		if err := db.QueryRow(pgtide.OnNode(ctx, "old"), "select count(*) from message where id = $1", newer).Scan(&n); err != nil && !errors.Is(err, pgtide.ErrNoFreshReplica) {
			t.Fatal(err)
		}
		return n == 1
	})
	dir.set(nil, called(p, "p"), called(d, "new"))
	are(t, db, "p", "new")
	read(t, ctx, db, newer) // it has been shown that
	if d := last(t, ctx); d.Node != "p" {
		t.Errorf("a session that was shown what the new node lacks reads from %v", d)
	}
	text, err := shown.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back pgtide.Token
	if err := back.UnmarshalText(text); err != nil {
		t.Errorf("token of what was shown on the old node: %v", err)
	}
	other := pgtide.WithToken(t.Context(), back)
	read(t, other, db, id)
	if err := pgtide.Lost(other); err != nil {
		t.Errorf("token of what was shown on the old node: %v", err)
	}
	_, err = db.Exec(pgtide.OnNode(t.Context(), "old"), "select 1")
	if !errors.Is(err, pgtide.ErrUnknownNode) || !strings.Contains(err.Error(), `"old"`) || !strings.Contains(err.Error(), "new") {
		t.Errorf("a call to the node that left: %v, want ErrUnknownNode, its name and those that there are", err)
	}
	if err := db.WaitFor(t.Context(), shown, "old"); !errors.Is(err, pgtide.ErrUnknownNode) {
		t.Errorf("WaitFor on the node that left: %v, want ErrUnknownNode", err)
	}
	if _, err := db.Exec(pgtide.OnGroup(t.Context(), "reports"), "select 1"); !errors.Is(err, pgtide.ErrUnknownGroup) || db.HasGroup("reports") {
		t.Errorf("a call to the group that left: %v, want ErrUnknownGroup", err)
	}
	if err := d.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new node to be read from", func() bool {
		read(t, ctx, db, newer)
		return last(t, ctx).Node == "new"
	})
}

func TestPrimaryLeavesAndAnotherJoins(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	p, b := c.Nodes()[0], c.Nodes()[1]
	dir := &directory{}
	dir.set(nil, called(p, "p"))
	primaries := make(chan string, 16)
	db := discovering(t, dir, pgtide.Options{Hooks: pgtide.Hooks{
		OnPrimary: func(before, after string, splitBrain bool) { primaries <- fmt.Sprint(before, ">", after, splitBrain) },
	}})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	ctx := pgtide.NewSession(t.Context())
	kept := insert(t, ctx, db, "kept")
	if _, err := pool.Exec(ctx, "insert into message (text) values ('by the pool')"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), b.Name()); err != nil {
		t.Fatal(err)
	}
	written, byPool := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := db.Exec(ctx, "insert into message (text) values ('waits')")
		written <- err
	}()
	go func() {
		// What is sent on a connection that is dead already is its caller's to know.
		_, err := pool.Exec(ctx, "insert into message (text) values ('waits in the pool')")
		byPool <- err
	}()
	dir.set(nil, called(b, "b"))
	are(t, db, "b")
	if err := <-written; err != nil {
		t.Errorf("write while the primary was exchanged: %v", err)
	}
	<-byPool
	read(t, ctx, db, kept)
	if _, err := pool.Exec(ctx, "insert into message (text) values ('to the new one')"); err != nil {
		t.Errorf("by the pool: %v", err)
	}
	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != ">bfalse" && seen[len(seen)-1] != "p>bfalse" {
		select {
		case s := <-primaries:
			seen = append(seen, s)
		case <-time.After(10 * time.Second):
			t.Fatalf("OnPrimary told of %v, want b in the end", seen)
		}
	}
	if seen[0] != ">pfalse" {
		t.Errorf("OnPrimary told of %v, want p first", seen)
	}
}
