package lab_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

func TestPromoteAndRejoin(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2})
	old, err := c.Node("node1")
	must(t, err)
	exec1(t, old.DSN(), "create table t (i int)")
	must(t, c.WaitCaughtUp(ctx))
	must(t, old.Kill(ctx))
	must(t, c.Promote(ctx, "node2"))
	if got := c.Primary().Name(); got != "node2" {
		t.Fatalf("primary: got %s, want node2", got)
	}
	if got := c.Replicas(); len(got) != 1 || got[0].Name() != "node3" {
		t.Errorf("replicas: got %d, want node3 alone", len(got))
	}
	exec1(t, c.Primary().DSN(), "insert into t values (1)")
	must(t, c.WaitCaughtUp(ctx)) // node3 follows
	for _, name := range []string{"node2", "node3"} {
		if st := statusOf(t, c, name); st.Timeline != 2 || st.BytesBehind != 0 {
			t.Errorf("got status %+v, want it up to date on timeline 2", st)
		}
	}
	wantError(t, c.Primary().Rejoin(ctx), "node2", "is the primary")

	must(t, old.Rejoin(ctx))
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, old.DSN(), countRows); got != 1 {
		t.Errorf("rows on the rejoined node: got %d, want 1", got)
	}
	if got := len(c.Replicas()); got != 2 {
		t.Errorf("replicas after rejoining: got %d, want 2", got)
	}

	// And back again, with the first primary in its old place.
	must(t, c.Primary().Stop(ctx))
	must(t, c.Promote(ctx, "node1"))
	exec1(t, old.DSN(), "insert into t values (2)")
	must(t, c.WaitCaughtUp(ctx))
	if st := statusOf(t, c, "node1"); st.Timeline != 3 || st.Role != lab.RolePrimary {
		t.Errorf("got status %+v, want the primary on timeline 3", st)
	}
	_, err = c.Node("node4")
	wantError(t, err, "node4")
	wantError(t, c.Promote(ctx, "node4"), "node4")
}

// A promotion beside a living primary makes two servers that take writes.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, old, replica := pair(t)
	must(t, replica.Cut(ctx))
	must(t, replica.SetApplyDelay(ctx, 0))
	exec1(t, old.DSN(), "insert into t values (1)") // will be lost
	must(t, c.Promote(ctx, replica.Name()))
	exec1(t, old.DSN(), "insert into t values (2)")
	exec1(t, replica.DSN(), "insert into t values (3)")
	if got := c.Primary(); got != replica {
		t.Errorf("primary: got %s, want %s on the newer timeline", got.Name(), replica.Name())
	}
	if got := len(c.Replicas()); got != 0 {
		t.Errorf("replicas: got %d, want none", got)
	}
	for _, n := range c.Nodes() {
		st := statusOf(t, c, n.Name())
		if st.Role != lab.RolePrimary {
			t.Errorf("role of %s: got %s, want primary", n.Name(), st.Role)
		}
		if known := st.BytesBehind >= 0; known != (n == replica) {
			t.Errorf("bytes behind of %s: got %d, want it known for the newest primary alone", n.Name(), st.BytesBehind)
		}
	}
	must(t, old.Rejoin(ctx)) // while it runs
	must(t, c.WaitCaughtUp(ctx))
	if got := query[string](t, old.DSN(), "select string_agg(i::text, ',') from t"); got != "3" {
		t.Errorf("rows after rejoining: got %s, want 3 alone", got)
	}
}

// A promotion with SQL, behind the lab's back, is noticed all the same.
func TestPromotionWithSQL(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2})
	n3, err := c.Node("node3")
	must(t, err)
	must(t, c.Primary().Stop(ctx))
	if !query[bool](t, n3.SuperDSN(), "select pg_promote()") {
		t.Fatal("pg_promote did not promote")
	}
	if got := c.Primary(); got != n3 {
		t.Errorf("primary: got %s, want node3", got.Name())
	}
	must(t, c.Promote(ctx, "node3")) // makes node2 follow
	must(t, c.WaitCaughtUp(ctx))
	n1, err := c.Node("node1")
	must(t, err)
	must(t, n1.Rejoin(ctx))
	must(t, c.WaitCaughtUp(ctx))
}

func TestAddReplicaUnderWrites(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{})
	exec1(t, c.Primary().DSN(), "create table t (i int); create unlogged table u (i int)")
	conn, err := pgx.Connect(ctx, c.Primary().DSN())
	must(t, err)
	defer conn.Close(ctx)
	stop, wrote := make(chan struct{}), make(chan int)
	go func() {
		rows := 0
		defer func() { wrote <- rows }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := conn.Exec(ctx, "insert into t select generate_series(1, 10)"); err != nil {
				t.Error(err)
				return
			}
			rows += 10
		}
	}()
	replica, err := c.AddReplica(ctx)
	close(stop)
	want := <-wrote
	must(t, err)
	if got := replica.Name(); got != "node2" {
		t.Errorf("name: got %s, want node2", got)
	}
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, replica.DSN(), countRows); got != want || want == 0 {
		t.Errorf("rows on the new replica: got %d, want %d and more than none", got, want)
	}

	// A replica of a stopped primary cannot be made, and leaves no trace.
	must(t, c.Primary().Stop(ctx))
	_, err = c.AddReplica(ctx)
	wantError(t, err, "node1", "stopped")
	if got := len(c.Nodes()); got != 2 {
		t.Errorf("nodes: got %d, want 2", got)
	}
}

func TestAddReplicaTakesBackWhatItCannotMake(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{})
	// All the lab sees of a tablespace outside the data directory is a link.
	link := filepath.Join(c.Dir(), "node1", "data", "pg_tblspc", "16999")
	must(t, os.Symlink("/elsewhere", link))
	_, err := c.AddReplica(ctx)
	wantError(t, err, "node2", "tablespace", "drop the tablespace")
	if got := len(c.Nodes()); got != 1 {
		t.Errorf("nodes: got %d, want 1", got)
	}
	if _, err := os.Stat(filepath.Join(c.Dir(), "node2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: got %v, want it gone", err)
	}
	must(t, os.Remove(link))
	n, err := c.AddReplica(ctx)
	must(t, err)
	if got := n.Name(); got != "node3" {
		t.Errorf("name: got %s, want node3 as no name is used twice", got)
	}
	must(t, c.WaitCaughtUp(ctx))
}
