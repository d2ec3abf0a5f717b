package river_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// River goes on at the new primary: nothing that it was told is forgotten, and
// no job is done twice.
func TestFailover(t *testing.T) {
	for name, leave := range map[string]func(*lab.Node, context.Context) error{
		"killed":        (*lab.Node).Kill,
		"frozen":        (*lab.Node).Freeze,
		"still running": func(*lab.Node, context.Context) error { return nil },
	} {
		t.Run("the old primary is "+name, func(t *testing.T) { testFailover(t, leave) })
	}
}

func testFailover(t *testing.T, leave func(*lab.Node, context.Context) error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	db := open(t, c)
	if _, err := db.Exec(ctx, schema); err != nil {
		t.Fatal(err)
	}
	migrate(t, db)
	_, worker := start(t, db, river.QueueDefault, 200*time.Millisecond)
	adder := newAdder(t)

	const jobs = 10
	seen := map[int64]int{}
	add := func(args noteArgs) { seen[addInTx(t, db, adder, args, true).id]-- }
	visited := func(n int) {
		t.Helper()
		for range n {
			v := worker.next(t)
			if seen[v.note]++; !v.found {
				t.Errorf("a job does not find note %d", v.note)
			}
		}
	}
	for range jobs {
		add(noteArgs{})
	}
	visited(jobs)

	add(noteArgs{Hold: true})
	var goOn chan struct{}
	select {
	case goOn = <-worker.held: // this job is done on both sides of the failover
	case <-ctx.Done():
		t.Fatal("the job is not taken")
	}
	old, next := c.Primary(), c.Replicas()[0]
	if err := c.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	if err := leave(old, ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(ctx, next.Name()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	followed(t, db, next.Name())
	close(goOn)
	for range jobs {
		add(noteArgs{})
	}
	visited(jobs + 1)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d jobs were done within %v of the promotion, want 5 s", jobs+1, took)
	}

	for note, n := range seen {
		if n != 0 {
			t.Errorf("note %d was visited %d times, want once", note, n+1)
		}
	}
	// Asked of the server itself: what is there, whoever says that it was written.
	conn, err := pgx.Connect(ctx, next.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var visits, completed int
	const count = `select (select count(*) from visited), (select count(*) from river_job where state = 'completed')`
	if err := conn.QueryRow(ctx, count).Scan(&visits, &completed); err != nil || visits != 2*jobs+1 || completed != visits {
		t.Errorf("%d visits and %d completed jobs, %v; want %d of each", visits, completed, err, 2*jobs+1)
	}

	// It listens again, and does not only poll. Nothing tells when.
	const listening = `select count(*) from pg_stat_activity where query like 'LISTEN %' or query = '-- ping'`
	for n := 0; n == 0; <-time.After(20 * time.Millisecond) {
		if err := conn.QueryRow(ctx, listening).Scan(&n); err != nil {
			t.Fatalf("River does not listen at %s: %v", next.Name(), err)
		}
	}
}

// followed waits until db writes to the node: what is written to the old primary
// is lost. A view tells nobody that it has changed.
func followed(t *testing.T, db *pgtide.DB, node string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		for _, n := range db.Nodes() {
			if n.Writable && n.Name == node {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not written to after 10 s", node)
		}
	}
}
