package pgtide_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestNodeThatJoinsIsNotReadFromBeforeItHasWhatWasSettled(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	p, b, d := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1, WaitBudget: -1})
	if err := d.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer := pgtide.NewSession(t.Context())
	id := insert(t, writer, db, "settled")
	token, _ := pgtide.TokenFrom(writer)
	until(t, "the token to be settled", func() bool { return db.Settled(token) })
	dir.set(nil, called(p, "p"), called(b, "b"), called(d, "d"))
	are(t, db, "p", "b", "d")
	if db.Settled(token) {
		t.Error("a token is settled although a node lacks what it stands for")
	}
	on := map[string]int{}
	for range 100 {
		ctx := pgtide.NewSession(t.Context()) // shows no token
		read(t, ctx, db, id)
		on[last(t, ctx).Node]++
	}
	if on["d"] > 0 || on["b"] == 0 {
		t.Errorf("reads went to %v, want them at b: d owes what was settled", on)
	}
	ctx := pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Eventual)
	until(t, "a read that asks for nothing to go there", func() bool {
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		ctx = pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Eventual)
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Node == "d"
	})
	if err := d.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the token to be settled again", func() bool { return db.Settled(token) })
	until(t, "the node to be read from", func() bool {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, id)
		return last(t, ctx).Node == "d"
	})
}

func TestReplicaThatRestartsBehindWhatWasSettled(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	db := open(t, c, pgtide.Options{MaxStaleness: -1, WaitBudget: -1})
	super := superuser(t, replica)
	if _, err := superuser(t, c.Primary()).Exec(t.Context(), "checkpoint"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := super.Exec(t.Context(), "checkpoint"); err != nil { // recovery will begin here
		t.Fatal(err)
	}
	writer := pgtide.NewSession(t.Context())
	id := insert(t, writer, db, "settled")
	token, _ := pgtide.TokenFrom(writer)
	until(t, "the token to be settled", func() bool { return db.Settled(token) })
	// It begins again from its restart point, and goes no further.
	if err := replica.SetApplyDelay(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []func(context.Context) error{replica.Cut, replica.Kill, replica.Start} {
		if err := fault(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	are(t, db, "node1", "node2")
	conn, err := pgx.Connect(t.Context(), replica.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), "select count(*) from message where id = $1", id).Scan(&n); err != nil || n != 0 {
		t.Fatalf("the restarted replica shows %d rows (%v): this shows nothing", n, err)
	}
	for range 50 {
		read(t, pgtide.NewSession(t.Context()), db, id) // shows no token
	}
	until(t, "the restart to be seen", func() bool { return !db.Settled(token) })
	for range 50 {
		read(t, pgtide.NewSession(t.Context()), db, id)
	}
	if err := replica.SetApplyDelay(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := replica.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be read from", func() bool {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, id)
		return last(t, ctx).Role == pgtide.RoleReplica
	})
}

// The primary has what was written there, observed or not; and as long as it is
// the only node, so has every node. But one that joins owes what was observed.
func TestSettledWithThePrimaryAlone(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	p, b := c.Nodes()[0], c.Nodes()[1]
	dir := &directory{}
	dir.set(nil, called(p, "p"))
	// With an hour between probes, what is written is not observed.
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1, WaitBudget: -1, ProbeInterval: time.Hour})
	if err := b.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer := pgtide.NewSession(t.Context())
	id := insert(t, writer, db, "not observed")
	token, _ := pgtide.TokenFrom(writer)
	dropped := db.Settled(token)
	dir.set(nil, called(p, "p"), called(b, "b"))
	are(t, db, "p", "b")
	var ctx context.Context
	for range 20 {
		ctx = pgtide.NewSession(t.Context())
		if !dropped {
			ctx = pgtide.WithToken(t.Context(), token)
		}
		read(t, ctx, db, id)
	}
	if d := last(t, ctx); d.Node != "p" {
		t.Errorf("%v, want the primary: the replica has not replayed the write", d)
	}
	// Once it is observed the token need not be kept.
	alone := open(t, c, pgtide.Options{Nodes: []pgtide.Node{called(p, "p")}})
	until(t, "the token to be settled", func() bool { return alone.Settled(token) })
}
