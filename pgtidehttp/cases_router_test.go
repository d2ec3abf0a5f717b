package pgtidehttp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// Upstream's router has a state, master or slave, and what a statement is plays no
// part for reads. Here the statement decides.
func TestCasesOfRouting(t *testing.T) {
	c := getPair(t)
	db := openPair(t, c, pgtide.Options{})
	primary, replicas := c.Primary().Name(), c.Replicas()

	t.Run("T32 a write goes to the primary", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "insert into message (id) values ($1)", newID()); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Node != primary || d.Reason != pgtide.ReasonWrite {
			t.Errorf("it went to %s (%s), want %s", d.Node, d.Reason, primary)
		}
	})
	// Upstream raises RuntimeError; the error here has a type, and is asked for.
	t.Run("T33 a write where only reads are expected is an error", func(t *testing.T) {
		ctx := pgtide.ReadOnly(pgtide.NewSession(t.Context()), pgtide.GuardError)
		row := newID()
		_, err := db.Exec(ctx, "insert into message (id) values ($1)", row)
		var refused *pgtide.WriteGuardError
		if !errors.Is(err, pgtide.ErrWriteNotAllowed) || !errors.As(err, &refused) || refused.Caller == "" {
			t.Errorf("the write: %v, want a WriteGuardError with its caller", err)
		}
		if n, err := countOf(pgtide.OnPrimary(t.Context()), db, row); n != 0 || err != nil {
			t.Errorf("%d rows were written, %v", n, err)
		}
	})
	t.Run("T34 a read goes to one of the replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		if _, err := countOf(ctx, db, "none"); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Node != replicas[0].Name() && d.Node != replicas[1].Name() {
			t.Errorf("it went to %s (%s)", d.Node, d.Reason)
		}
	})
	// Upstream only answers that the ORM may relate the two objects; if the master
	// has them is left to luck. Here the session's token holds on every node.
	t.Run("T36 rows of two replicas may be related", func(t *testing.T) {
		a, b := newID(), newID()
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "insert into message (id) values ($1), ($2)", a, b); err != nil {
			t.Fatal(err)
		}
		token, err := db.CurrentToken(t.Context())
		if err == nil {
			err = db.WaitFor(t.Context(), token)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range []string{a, b} {
			if n, err := countOf(pgtide.OnNode(ctx, replicas[i].Name()), db, row); n != 1 || err != nil {
				t.Errorf("%s shows %d rows, %v", replicas[i].Name(), n, err)
			}
		}
		if _, err := db.Exec(ctx, "insert into link (a, b) values ($1, $2)", a, b); err != nil {
			t.Errorf("relate them: %v", err)
		}
		var n int
		err = db.QueryRow(ctx, "select count(*) from link join message m on m.id = a join message n on n.id = b where a = $1", a).Scan(&n)
		if n != 1 || err != nil {
			t.Errorf("the session sees %d of its links, %v", n, err)
		}
	})
	t.Run("X1 a session stays with one replica", func(t *testing.T) {
		began := map[string]int{}
		for range 100 {
			ctx := pgtide.NewSession(t.Context())
			nodes := map[string]bool{}
			for range 10 {
				if _, err := countOf(ctx, db, "none"); err != nil {
					t.Fatal(err)
				}
				nodes[last(t, ctx).Node] = true
			}
			if len(nodes) != 1 {
				t.Fatalf("one session read from %v, want one node", nodes)
			}
			began[last(t, ctx).Node]++
		}
		if began[replicas[0].Name()] == 0 || began[replicas[1].Name()] == 0 {
			t.Errorf("100 sessions read from %v, want both replicas", began)
		}
	})
	// Upstream goes on with the slave it has chosen: each query of the request
	// fails. No result was handed out, so here the read is made again elsewhere.
	t.Run("X2 the replica of a session dies", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		if _, err := countOf(ctx, db, "none"); err != nil {
			t.Fatal(err)
		}
		dead, err := c.Node(last(t, ctx).Node)
		if err != nil {
			t.Fatal(err)
		}
		if err := dead.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		mended(t, c, dead)
		for range 5 {
			if _, err := countOf(ctx, db, "none"); err != nil {
				t.Fatalf("a read after it died: %v", err)
			}
		}
		if d := last(t, ctx); d.Node == dead.Name() {
			t.Errorf("the last read is said to be served by %s, which is dead", d.Node)
		}
	})
}

func TestCasesWithoutReplicas(t *testing.T) {
	c := getPair(t)
	db := openPair(t, c, pgtide.Options{})
	replicas := c.Replicas()
	mended(t, c, replicas...)
	for _, r := range replicas {
		if err := r.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	primary := c.Primary().Name()
	t.Run("T35 a read without replicas goes to the primary", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		if _, err := countOf(ctx, db, "none"); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Node != primary {
			t.Errorf("it went to %s (%s), want %s", d.Node, d.Reason, primary)
		}
	})
	// Upstream's reads are on the master then, its state is still slave, and the
	// write raises. What there is to read from says nothing about writing.
	t.Run("X3 a write while all replicas are dead", func(t *testing.T) {
		ctx := pgtide.OnReplica(pgtide.NewSession(t.Context()))
		row := newID()
		if _, err := countOf(ctx, db, row); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(ctx, "insert into message (id) values ($1)", row); err != nil {
			t.Fatalf("the write: %v", err)
		}
		if n, err := countOf(ctx, db, row); n != 1 || err != nil {
			t.Errorf("the session sees %d of its rows, %v", n, err)
		}
	})
}

// Upstream knows nothing of lag: a slave whose replay stands still is alive, and is
// read from for ever.
func TestCaseOfPausedReplay(t *testing.T) {
	c := getPair(t)
	replicas := c.Replicas()
	for _, r := range replicas {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.ResumeReplay(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("X15 paused replay", func(t *testing.T) {
		db := openPair(t, c, pgtide.Options{WaitBudget: -1, MaxStaleness: 300 * time.Millisecond})
		row := newID()
		// Another program writes, past the DB.
		conn, err := pgx.Connect(t.Context(), c.Primary().DSN())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "insert into message (id) values ($1)", row); err != nil {
			t.Fatal(err)
		}
		// A session that must see it does at once.
		token, err := db.CurrentToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx := pgtide.WithToken(t.Context(), token)
		if n, err := countOf(ctx, db, row); n != 1 || err != nil {
			t.Errorf("a session with the row's token sees %d rows, %v", n, err)
		}
		// Others do once the replicas are older than MaxStaleness.
		comes(t, "a read that asks for nothing sees the row", func() bool {
			ctx = pgtide.NewSession(t.Context())
			n, err := countOf(ctx, db, row)
			if err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
		if d := last(t, ctx); d.Role != pgtide.RolePrimary {
			t.Errorf("a %s shows the row (%s): its replay is not paused", d.Role, d.Reason)
		}
		if n := nodeOf(t, db, replicas[0].Name()); n.State != "up" || !n.Paused {
			t.Errorf("the node is %s, paused %v; want up, true", n.State, n.Paused)
		}
	})
}
