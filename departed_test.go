package pgtide_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// Nobody looks at a node that has left, so what hangs there would hang for good.
func TestFrozenNodeLeavesBelowARead(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	p, b := c.Nodes()[0], c.Nodes()[1]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1})
	super := superuser(t, b)
	ctx := pgtide.NewSession(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec(pgtide.OnReplica(ctx), "select pg_sleep(2)")
		done <- err
	}()
	until(t, "the read to run", func() bool {
		var n int
		if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = 'b' and wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if err := b.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the frozen node to be called down", func() bool { return len(db.Nodes()) == 2 && db.Nodes()[1].State == "down" })
	dir.set(nil, called(p, "p"))
	are(t, db, "p")
	select {
	case err := <-done:
		if d := last(t, ctx); err != nil || d.Node != "p" || d.Attempt != 2 {
			t.Errorf("the read ended with %v at %v, want it made again at p", err, d)
		}
	case <-time.After(15 * time.Second):
		t.Error("the read hangs")
		if err := b.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-done
	}
}

// A node that was overtaken after it had left is not written to either.
func TestTransactionOnAPrimaryThatLeftAndWasOvertaken(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	p, b := c.Nodes()[0], c.Nodes()[1]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{})
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "insert into message (text) values ('left behind')"); err != nil {
		t.Fatal(err)
	}
	dir.set(nil, called(b, "b"))
	are(t, db, "b")
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("nothing has overtaken it yet: %v", err)
	}
	if err := c.Promote(t.Context(), b.Name()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new primary to be known", db.Writable)
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("a transaction was committed at a server that was overtaken")
	}
}

// The primary in other words is the same server: nothing that is open there need
// be closed.
func TestPrimaryInOtherWordsGoesOn(t *testing.T) {
	t.Parallel()
	good := nodes(shared)
	dir := &directory{}
	dir.set(nil, good...)
	db := discovering(t, dir, pgtide.Options{})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	var open []pgx.Tx
	for what, begin := range map[string]func(context.Context) (pgx.Tx, error){"DB": db.Begin, "PrimaryPool": pool.Begin} {
		tx, err := begin(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		open = append(open, tx)
	}
	changed := slices.Clone(good)
	changed[0].Weight = 2
	dir.set(nil, changed...)
	dir.again(t)
	are(t, db, "node1", "node2", "node3")
	until(t, "the primary to be written to", db.Writable)
	if _, err := pool.Exec(t.Context(), "insert into message (text) values ('in other words')"); err != nil {
		t.Errorf("by the primary pool: %v", err)
	}
	for _, tx := range open {
		if _, err := tx.Exec(t.Context(), "insert into message (text) values ('open all the while')"); err != nil {
			t.Errorf("statement of a transaction that was open: %v", err)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Errorf("commit of a transaction that was open: %v", err)
		}
	}
}
