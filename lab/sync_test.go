package lab_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// hangs reports whether a commit on the node waits for somebody.
func hangs(t *testing.T, n *lab.Node) bool {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), n.DSN())
	must(t, err)
	defer conn.Close(testContext(t))
	_, err = conn.Exec(soon(t), "insert into t values (0)")
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("commit on %s: %v", n.Name(), err)
	}
	return err != nil
}

// syncOf is the replicas' part in commits: who is synchronous, and who is
// waited for but not there.
func syncOf(t *testing.T, c *lab.Cluster) string {
	t.Helper()
	status, err := c.Status(testContext(t))
	must(t, err)
	var words []string
	for _, n := range status.Nodes {
		switch {
		case n.Awaited && n.SyncState == "sync":
			words = append(words, n.Name)
		case n.Awaited:
			words = append(words, n.Name+" missing")
		case n.SyncState != "" && n.SyncState != "async":
			words = append(words, n.Name+" is "+n.SyncState)
		}
	}
	return strings.Join(words, ", ")
}

func wantSync(t *testing.T, c *lab.Cluster, want string) {
	t.Helper()
	if got := syncOf(t, c); got != want {
		t.Errorf("commits wait for %q, want %q", got, want)
	}
}

func nodeNamed(t *testing.T, c *lab.Cluster, name string) *lab.Node {
	t.Helper()
	n, err := c.Node(name)
	must(t, err)
	return n
}

func TestSynchronousModes(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2, Synchronous: lab.SyncRemoteApply})
	wantSync(t, c, "node2, node3")
	primary, replica := c.Primary(), c.Replicas()[0]
	exec1(t, primary.DSN(), "create table t (i int)")
	for want := 1; want <= 20; want++ {
		exec1(t, primary.DSN(), "insert into t values (1)")
		for _, n := range c.Replicas() {
			if got := query[int](t, n.DSN(), countRows); got != want {
				t.Fatalf("rows on %s right after the commit: got %d, want %d", n.Name(), got, want)
			}
		}
	}

	// remote_apply waits for a delayed replica, on does not.
	const delay = 400 * time.Millisecond
	must(t, replica.SetApplyDelay(ctx, delay))
	for mode, waits := range map[lab.Sync]bool{lab.SyncOn: false, lab.SyncRemoteApply: true} {
		must(t, c.SetSynchronous(ctx, mode))
		if status, err := c.Status(ctx); err != nil || status.Sync != mode {
			t.Errorf("mode in the status: got %q, %v, want %q", status.Sync, err, mode)
		}
		began := time.Now()
		exec1(t, primary.DSN(), "insert into t values (1)")
		if took := time.Since(began); (took >= delay) != waits {
			t.Errorf("a commit with %q took %s beside a delay of %s, want it to wait: %t", mode, took, delay, waits)
		}
	}
	must(t, replica.SetApplyDelay(ctx, 0))

	// Sessions that are there already commit in the mode that was set last.
	conn, err := pgx.Connect(ctx, primary.DSN())
	must(t, err)
	defer conn.Close(ctx)
	must(t, c.SetSynchronous(ctx, lab.SyncOff))
	wantSync(t, c, "")
	must(t, replica.Kill(ctx))
	if hangs(t, primary) {
		t.Error("a commit hangs although replication is asynchronous")
	}
	must(t, c.SetSynchronous(ctx, lab.SyncOn))
	wantSync(t, c, "node2 missing, node3")
	if _, err := conn.Exec(soon(t), "insert into t values (1)"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a commit of a session from before: got %v, want it to hang", err)
	}
	must(t, c.SetSynchronous(ctx, lab.SyncOn, "node3"))
	wantSync(t, c, "node3")
	if hangs(t, primary) {
		t.Error("a commit hangs for a replica that it is not to wait for")
	}
}

// A commit that waits for a replica goes through when the replica comes back,
// or when nobody is to be waited for any more.
func TestSynchronousCommitHangs(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2, Synchronous: lab.SyncOn, SyncReplicas: []string{"node2"}})
	wantSync(t, c, "node2")
	primary, sync, async := c.Primary(), nodeNamed(t, c, "node2"), nodeNamed(t, c, "node3")
	exec1(t, primary.DSN(), "create table t (i int)")
	must(t, c.WaitCaughtUp(ctx))

	rows := 0
	for name, fault := range map[string]struct{ begin, end func() error }{
		"frozen": {func() error { return sync.Freeze(ctx) }, func() error { return sync.Thaw(ctx) }},
		"killed": {func() error { return sync.Kill(ctx) }, func() error { return sync.Start(ctx) }},
		"cut":    {func() error { return sync.Cut(ctx) }, func() error { return sync.Heal(ctx) }},
		"killed, and given up": {func() error { return sync.Kill(ctx) }, func() error {
			return c.SetSynchronous(ctx, lab.SyncOff)
		}},
	} {
		must(t, c.SetSynchronous(ctx, lab.SyncOn, "node2"))
		must(t, fault.begin())
		conn, err := pgx.Connect(ctx, primary.DSN())
		must(t, err)
		defer conn.Close(ctx)
		committed := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, "insert into t values (1)")
			committed <- err
		}()
		rows++
		// The row shows on the replica that is not waited for before it does
		// on the primary.
		eventually(t, 10*time.Second, "the row on node3", func() bool { return query[int](t, async.DSN(), countRows) == rows })
		if got := query[int](t, primary.DSN(), countRows); got != rows-1 {
			t.Errorf("%s: rows on the primary while the commit waits: got %d, want %d", name, got, rows-1)
		}
		select {
		case err := <-committed:
			t.Errorf("%s: the commit returned (%v), want it to wait", name, err)
		default:
		}
		must(t, fault.end())
		must(t, <-committed)
		if sync.Role() != lab.RoleReplica || statusOf(t, c, "node2").State == lab.Stopped {
			must(t, sync.Start(ctx))
		}
	}
}

func TestSynchronousFailover(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2, Synchronous: lab.SyncOn})
	node1, node2, node3 := nodeNamed(t, c, "node1"), nodeNamed(t, c, "node2"), nodeNamed(t, c, "node3")
	exec1(t, node1.DSN(), "create table t (i int)")

	// The new primary waits for the other replica, not for itself.
	must(t, node1.Kill(ctx))
	must(t, c.Promote(ctx, "node2"))
	if hangs(t, node2) {
		t.Error("a commit on the promoted node2 hangs")
	}
	wantSync(t, c, "node3")
	must(t, node3.Freeze(ctx))
	if !hangs(t, node2) {
		t.Error("a commit on node2 does not wait for node3")
	}
	must(t, node3.Thaw(ctx))

	// The overtaken primary still waits for its replicas, which are gone.
	must(t, node1.Start(ctx))
	if !hangs(t, node1) {
		t.Error("a commit goes through on an overtaken primary")
	}
	must(t, node1.Rejoin(ctx))
	wantSync(t, c, "node1, node3")
	node4, err := c.AddReplica(ctx)
	must(t, err)
	wantSync(t, c, "node1, node3, node4")

	// Those who are away when a node is promoted are not waited for until they
	// are back.
	must(t, node4.Kill(ctx))
	must(t, node3.Freeze(ctx))
	must(t, node1.Cut(ctx))
	must(t, node2.Kill(ctx))
	must(t, c.Promote(ctx, "node1"))
	wantSync(t, c, "")
	if hangs(t, node1) {
		t.Error("a commit hangs on a primary that has no replica")
	}
	must(t, node3.Thaw(ctx))
	wantSync(t, c, "node3")
	must(t, node4.Start(ctx))
	wantSync(t, c, "node3, node4")
	must(t, node2.Rejoin(ctx))
	wantSync(t, c, "node2, node3, node4")
}

func TestSynchronousIsKept(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "cluster")
	c := start(t, lab.Options{Dir: dir, Replicas: 2, Synchronous: lab.SyncOn})
	exec1(t, c.Primary().DSN(), "create table t (i int)")
	must(t, c.Primary().Stop(ctx))
	must(t, c.Promote(ctx, "node2"))
	must(t, c.Close())
	c = start(t, lab.Options{Dir: dir})
	wantSync(t, c, "node3")
	exec1(t, c.Primary().DSN(), "insert into t values (1)")
	if !hangs(t, nodeNamed(t, c, "node1")) {
		t.Error("a commit goes through on the overtaken primary")
	}
	must(t, c.Close())
	c = start(t, lab.Options{Dir: dir, Replicas: 2, Synchronous: lab.SyncRemoteApply, SyncReplicas: []string{"node2", "node4"}})
	wantSync(t, c, "node4")
	must(t, c.Close())
	c, err := lab.Open(ctx, dir)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	if status, err := c.Status(ctx); err != nil || status.Sync != lab.SyncRemoteApply {
		t.Errorf("mode of an opened cluster: got %q, %v, want remote_apply", status.Sync, err)
	}
	must(t, c.SetSynchronous(ctx, lab.SyncOn)) // from the next start on
	for _, name := range []string{"node2", "node3", "node4"} {
		must(t, nodeNamed(t, c, name).Start(ctx))
	}
	wantSync(t, c, "node3, node4")
}

// Not even the first commit after a promotion goes through without the
// replicas that are to have it.
func TestSynchronousPromotionLeavesNoGap(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2, Synchronous: lab.SyncRemoteApply})
	node2, node3 := nodeNamed(t, c, "node2"), nodeNamed(t, c, "node3")
	exec1(t, c.Primary().DSN(), "create table t (i int)")
	must(t, node3.SetApplyDelay(ctx, 300*time.Millisecond))
	must(t, c.Primary().Kill(ctx))
	reader, err := pgx.Connect(ctx, node3.DSN())
	must(t, err)
	defer reader.Close(ctx)
	writer, err := pgx.Connect(ctx, node2.DSN())
	must(t, err)
	defer writer.Close(ctx)
	promoted := make(chan error, 1)
	go func() { promoted <- c.Promote(ctx, "node2") }()
	for refused := true; refused; {
		_, err := writer.Exec(ctx, "insert into t values (1)")
		if refused = err != nil && strings.Contains(err.Error(), "25006"); err != nil && !refused {
			t.Fatal(err)
		}
	}
	var rows int
	must(t, reader.QueryRow(ctx, countRows).Scan(&rows))
	if rows != 1 {
		t.Errorf("rows on node3 when the first commit on node2 returns: got %d, want 1", rows)
	}
	must(t, <-promoted)
}

// The only replica becomes a primary that has nobody to wait for, also if it
// is promoted with SQL and the lab hears of it later.
func TestSynchronousPairFailover(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 1, Synchronous: lab.SyncRemoteApply})
	node1, node2 := nodeNamed(t, c, "node1"), nodeNamed(t, c, "node2")
	exec1(t, node1.DSN(), "create table t (i int)")
	must(t, node1.Kill(ctx))
	must(t, c.Promote(ctx, "node2"))
	if hangs(t, node2) {
		t.Error("a commit hangs with nobody to acknowledge it")
	}
	must(t, node1.Rejoin(ctx))
	wantSync(t, c, "node1")

	if !query[bool](t, node1.SuperDSN(), "select pg_promote()") {
		t.Fatal("pg_promote did not promote")
	}
	if hangs(t, node1) {
		t.Error("a commit hangs after a promotion with SQL")
	}
	if !hangs(t, node2) {
		t.Error("a commit goes through on the overtaken node2")
	}
	must(t, c.Promote(ctx, "node1"))
	must(t, node2.Rejoin(ctx))
	wantSync(t, c, "node2")
}

func TestSynchronousRefused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	for _, test := range []struct {
		o    lab.Options
		want string
	}{
		{lab.Options{Synchronous: "always"}, `"always"`},
		{lab.Options{Replicas: 1, SyncReplicas: []string{"node2"}}, "Synchronous is off"},
		{lab.Options{Replicas: 1, Synchronous: lab.SyncOn, SyncReplicas: []string{"node3"}}, `"node3"`},
		{lab.Options{Synchronous: lab.SyncOn, Settings: map[string]string{"Synchronous_Commit": "off"}}, "give one of them"},
	} {
		c, err := lab.Start(ctx, test.o)
		if err == nil {
			c.Close()
		}
		wantError(t, err, "options: ", test.want)
	}
	c, primary, replica := pair(t)
	wantError(t, c.SetSynchronous(ctx, "always"), `"always"`)
	wantError(t, c.SetSynchronous(ctx, lab.SyncOn, "node7"), `"node7"`)
	wantError(t, c.SetSynchronous(ctx, lab.SyncOff, "node2"), "off")
	must(t, primary.Freeze(ctx))
	wantError(t, c.SetSynchronous(ctx, lab.SyncOn), "node1", "frozen")
	must(t, primary.Thaw(ctx))
	wantSync(t, c, "")

	// What else says who is synchronous is named.
	exec1(t, primary.SuperDSN(), "alter system set synchronous_standby_names = 'somebody'")
	wantError(t, c.SetSynchronous(soon(t), lab.SyncOn), "node1", "synchronous_standby_names 'somebody'")
	exec1(t, primary.SuperDSN(), "alter system reset synchronous_standby_names")
	must(t, c.SetSynchronous(ctx, lab.SyncOn))
	wantSync(t, c, replica.Name())
}
