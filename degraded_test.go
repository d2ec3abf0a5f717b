package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestOneServerByTwoNames(t *testing.T) {
	t.Parallel()
	all := nodes(shared)
	for i, n := range nodes(shared) {
		n.Name = "again" + n.Name[len("node"):]
		n.DSN = strings.Replace(n.DSN, "127.0.0.1", "localhost", 1)
		if n.DSN == all[i].DSN {
			t.Fatalf("%s does not name 127.0.0.1", n.DSN)
		}
		all = append(all, n)
	}
	told := make(chan pgtide.NodeStatus, 64)
	db := open(t, shared, pgtide.Options{Nodes: all, MaxStaleness: -1, EjectFactor: -1, Hooks: pgtide.Hooks{
		OnNode: func(_, after pgtide.NodeStatus) {
			select {
			case told <- after:
			default:
			}
		},
	}})
	status := map[string]pgtide.NodeStatus{}
	until(t, "each server to be used once", func() bool {
		twins := 0
		for _, n := range db.Nodes() {
			status[n.Name] = n
			if n.State == "twin" {
				twins++
			}
		}
		return twins == 3
	})
	for name, n := range status {
		twin := strings.HasPrefix(name, "again")
		if (n.State == "twin") != twin || twin && (n.Writable || !strings.Contains(n.Err, "same server") || !strings.Contains(n.Err, "node"+name[len("again"):])) {
			t.Errorf("node %s is %+v; want those named first to be used, and the others to say which", name, n)
		}
	}
	seen := false
	for len(told) > 0 {
		n := <-told
		seen = seen || n.State == "twin"
	}
	if !seen {
		t.Error("OnNode was not told of a twin")
	}
	ctx := pgtide.NewSession(t.Context())
	read(t, ctx, db, insert(t, ctx, db, "hi"))
	token, _ := pgtide.TokenFrom(ctx)
	until(t, "the token to be settled whatever the twins", func() bool { return db.Settled(token) })
	nodes, _ := shares(t, db, 2, 100)
	for name, n := range nodes {
		if strings.HasPrefix(name, "again") || name == "node1" {
			t.Errorf("%d reads went to %s", n, name)
		}
	}
	if _, err := db.Exec(pgtide.OnNode(t.Context(), "again2"), "select 1"); !errors.Is(err, pgtide.ErrNodeDown) || !strings.Contains(err.Error(), "same server") {
		t.Errorf("a call to a twin: %v, want ErrNodeDown, and why", err)
	}
}

func TestRolesAreAsked(t *testing.T) {
	t.Parallel()
	// In the wrong order, with what says otherwise.
	dsn := fmt.Sprintf("postgres://app@127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/app?sslmode=disable&target_session_attrs=read-write",
		shared.Nodes()[2].Port(), shared.Nodes()[1].Port(), shared.Nodes()[0].Port())
	db := open(t, shared, pgtide.Options{DSN: dsn})
	for i, n := range db.Nodes() {
		want := pgtide.RoleReplica
		if i == 2 {
			want = pgtide.RolePrimary
		}
		if n.Role != want || n.Writable != (i == 2) {
			t.Errorf("node %d: %+v, want a %s", i, n, want)
		}
	}
	ctx := pgtide.NewSession(t.Context())
	read(t, ctx, db, insert(t, ctx, db, "hi"))
}

func TestPrimaryAlone(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Nodes: nodes(shared)[:1]})
	ctx := pgtide.NewSession(t.Context())
	read(t, ctx, db, insert(t, ctx, db, "hi"))
	if d := last(t, ctx); d.Reason != pgtide.ReasonNoReplica || d.Waited != 0 {
		t.Errorf("a read without replicas: %v", d)
	}
	if _, err := db.Exec(pgtide.OnReplica(ctx), "select 1"); err != nil {
		t.Errorf("a read for replicas, without any: %v", err)
	}
}

func TestStandbyOfAnotherCluster(t *testing.T) {
	t.Parallel()
	other := start(t, lab.Options{Replicas: 1})
	foreign := pgtide.Node{Name: "stranger", DSN: other.Replicas()[0].DSN()}
	_, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: append(nodes(shared), foreign), Degraded: true})
	if err == nil || !strings.Contains(err.Error(), "another cluster") || !strings.Contains(err.Error(), "system identifier") {
		t.Errorf("Open with a standby of another cluster: %v", err)
	}

	// Discovered later it is not used, and the others are as they were.
	dir := &directory{}
	dir.set(nil, nodes(shared)...)
	db := discovering(t, dir, pgtide.Options{MaxStaleness: -1})
	dir.set(nil, append(nodes(shared), foreign)...)
	until(t, "the stranger to be refused", func() bool {
		for _, n := range db.Nodes() {
			if n.Name == "stranger" {
				return n.State == "foreign" && strings.Contains(n.Err, `"stranger"`) && strings.Contains(n.Err, "another cluster")
			}
		}
		return false
	})
	if nodes, _ := shares(t, db, 2, 100); nodes["stranger"] > 0 || nodes["node1"] > 0 {
		t.Errorf("reads went to %v", nodes)
	}
	if _, err := db.Exec(pgtide.OnNode(t.Context(), "stranger"), "select 1"); !errors.Is(err, pgtide.ErrNodeDown) || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("a call to the stranger: %v", err)
	}
}

func TestOpenWhileAllAreDown(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	for _, n := range c.Nodes() {
		if err := n.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := pgtide.Open(ctx, pgtide.Options{Nodes: nodes(c)})
	if !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Fatalf("Open: %v, want ErrNoPrimary", err)
	}
	for _, want := range []string{`"node1"`, `"node2"`, "refused", "check that the servers run"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
	if d := time.Since(began); d < 300*time.Millisecond || d > 5*time.Second {
		t.Errorf("Open took %v, want as long as its context", d)
	}

	// It waits for those that come meanwhile.
	opened := make(chan error, 1)
	go func() {
		db, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: nodes(c), FailoverWait: 30 * time.Second})
		if err == nil {
			db.Close()
		}
		opened <- err
	}()
	for _, n := range c.Nodes() {
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-opened; err != nil {
		t.Errorf("Open while the servers start: %v", err)
	}
}

func TestDegraded(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	for _, n := range c.Nodes() {
		if err := n.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, c, pgtide.Options{Degraded: true, FailoverWait: 200 * time.Millisecond})
	if db.Writable() || db.SystemID() != 0 {
		t.Errorf("Writable is %v, SystemID %d", db.Writable(), db.SystemID())
	}
	for _, n := range db.Nodes() {
		if n.State != "down" || n.Err == "" {
			t.Errorf("node %s is %s (%s)", n.Name, n.State, n.Err)
		}
	}
	for what, call := range map[string]func(ctx context.Context) error{
		"write": func(ctx context.Context) error {
			_, err := db.Exec(ctx, "insert into message (text) values ('nowhere')")
			return err
		},
		"read": func(ctx context.Context) error {
			_, err := db.Exec(ctx, "select 1")
			return err
		},
		"transaction": func(ctx context.Context) error {
			_, err := db.Begin(ctx)
			return err
		},
	} {
		began := time.Now()
		if err := call(t.Context()); !errors.Is(err, pgtide.ErrNoPrimary) {
			t.Errorf("%s while all are down: %v, want ErrNoPrimary", what, err)
		}
		if d := time.Since(began); d < 200*time.Millisecond || d > 5*time.Second {
			t.Errorf("%s failed after %v, want FailoverWait", what, d)
		}
	}

	// A token from elsewhere is kept until it is known whose it is.
	patient := open(t, c, pgtide.Options{Degraded: true, FailoverWait: 30 * time.Second})
	ctx := pgtide.NewSession(t.Context())
	done := make(chan error, 2)
	go func() {
		var id int64
		done <- patient.QueryRow(ctx, "insert into message (text) values ('patience') returning id").Scan(&id)
	}()
	go func() {
		_, err := patient.Exec(t.Context(), "select 1")
		done <- err
	}()
	for _, n := range c.Nodes() {
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("a call that waited for the servers: %v", err)
		}
	}
	are(t, patient, "node1", "node2")
	until(t, "the impatient one to work too", func() bool {
		_, err := db.Exec(t.Context(), "insert into message (text) values ('works')")
		return err == nil
	})
	if patient.SystemID() == 0 {
		t.Error("SystemID is still 0")
	}
}

func TestDegradedWithReplicasAlone(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Nodes: nodes(shared)[1:], Degraded: true, FailoverWait: -1, MaxStaleness: -1})
	ctx := pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Eventual)
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Errorf("a read with replicas alone: %v", err)
	}
	if _, err := db.Exec(ctx, "insert into message (text) values ('nowhere')"); !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Errorf("a write with replicas alone: %v, want ErrNoPrimary", err)
	}
}

func TestDegradedIsNoReasonToWaitForAPassword(t *testing.T) {
	t.Parallel()
	all := nodes(shared)
	all[1].DSN = strings.Replace(all[1].DSN, "/app?", "/nothere?", 1)
	began := time.Now()
	_, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: all, Degraded: true})
	if err == nil || !strings.Contains(err.Error(), "create the database") {
		t.Errorf("Open with a database that is not there: %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A server's clock may be a year off. What pgtide asks it for has no time in it,
// but for that of its start, which is compared for being the same and no more.
func TestNoServerIsAskedForTheTime(t *testing.T) {
	files, err := filepath.Glob("internal/watch/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range append(files, "node.go", "wait.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, clock := range []string{
			" now()", "(now()", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "current_timestamp", "localtime", "timeofday",
			"pg_last_xact_replay_timestamp", "pg_last_committed_xact", "reply_time", "msg_send_time", "msg_receipt_time", "_lag",
		} {
			if strings.Contains(string(source), clock) {
				t.Errorf("%s asks a server for %s", file, clock)
			}
		}
	}
}
