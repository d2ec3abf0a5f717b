package pgtide_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestOpenMultiHostDSN(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{DSN: shared.DSN()})
	if n := len(db.Nodes()); n != 3 {
		t.Fatalf("%d nodes, want 3", n)
	}
	roles := map[pgtide.Role]int{}
	for _, n := range db.Nodes() {
		roles[n.Role]++
	}
	if roles[pgtide.RolePrimary] != 1 || roles[pgtide.RoleReplica] != 2 {
		t.Errorf("roles %v, want one primary and two replicas whatever their order", roles)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	other := start(t, lab.Options{Auth: lab.Password})
	good := shared.Primary().DSN()
	silent := blackHole(t)
	const secret = "hunter2-secret"
	node := func(dsn string) pgtide.Options {
		return pgtide.Options{Nodes: []pgtide.Node{{Name: "alpha", DSN: dsn}}, FailoverWait: 300 * time.Millisecond, ProbeTimeout: 250 * time.Millisecond}
	}
	replace := func(dsn, old, new string) string {
		if !strings.Contains(dsn, old) {
			t.Fatalf("%q is not in %q", old, dsn)
		}
		return strings.Replace(dsn, old, new, 1)
	}
	for _, test := range []struct {
		name string
		o    pgtide.Options
		want []string
	}{
		{"no nodes", pgtide.Options{}, []string{"set DSN, Nodes or Discover"}},
		{"both", pgtide.Options{DSN: good, Nodes: []pgtide.Node{{Name: "a", DSN: good}}}, []string{"set one of them"}},
		{"no name", pgtide.Options{Nodes: []pgtide.Node{{DSN: good}}}, []string{"node 1 has no name"}},
		{"no database", node("postgres://app:" + secret + "@127.0.0.1:1/"), []string{`"alpha"`, "names no database", "add one"}},
		{"not a DSN", node("postgres://app:" + secret + "@127.0.0.1:port/app"), []string{`"alpha"`}},
		{"unknown option", node(good + "&pool_max_con=5"), []string{`"alpha"`, "pool_max_con", "take the unknown"}},
		{"unknown database", node(replace(good, "/app?", "/nothere?")), []string{`"alpha"`, "nothere", "create the database"}},
		{"wrong password", node(replace(other.Primary().DSN(), "app:", "app:"+secret)), []string{`"alpha"`, "check the user and password"}},
		{"refused", node("postgres://app:" + secret + "@127.0.0.1:1/app"), []string{`"alpha"`, "no primary", "check that the servers run"}},
		{"silent", node("postgres://app:" + secret + "@" + silent + "/app?sslmode=disable"), []string{`"alpha"`, "no primary"}},
		{"replica only", node(shared.Replicas()[0].DSN()), []string{`"alpha" is a replica`, "no primary"}},
		{"two clusters", pgtide.Options{Nodes: []pgtide.Node{{Name: "alpha", DSN: good}, {Name: "beta", DSN: other.Primary().DSN()}}},
			[]string{"another cluster", "system identifier", "one primary and its replicas"}},
		{"twice the same", pgtide.Options{Nodes: []pgtide.Node{{Name: "alpha", DSN: good}, {Name: "beta", DSN: good}}}, []string{`"alpha" and "beta" are the same server`}},
		{"negative interval", pgtide.Options{DSN: good, ProbeInterval: -1}, []string{"ProbeInterval"}},
		{"no such consistency", pgtide.Options{DSN: good, Consistency: -99}, []string{"Consistency"}},
	} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		db, err := pgtide.Open(ctx, test.o)
		cancel()
		if err == nil {
			db.Close()
			t.Errorf("%s: no error", test.name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", test.name, err, want)
			}
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %q holds the password", test.name, err)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("%s: took %v", test.name, d)
		}
	}
}

// blackHole listens and never answers.
func blackHole(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestOpenWithAReplicaDown(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	if err := replica.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := open(t, c, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	if d := last(t, ctx); d.Reason != pgtide.ReasonNoReplica {
		t.Errorf("read with the only replica down: %v, want reason %s", d, pgtide.ReasonNoReplica)
	}
	if err := replica.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be used again", func() bool {
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		return last(t, ctx).Role == pgtide.RoleReplica
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := pgtide.Open(ctx, pgtide.Options{DSN: shared.Replicas()[0].DSN()})
	if !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Errorf("Open without a primary: %v, want ErrNoPrimary", err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	db.Close()
	db.Close()
	if _, err := db.Exec(t.Context(), "select 1"); !errors.Is(err, pgtide.ErrClosed) {
		t.Errorf("Exec on a closed DB: %v, want ErrClosed", err)
	}
	if err := db.QueryRow(t.Context(), "select 1").Scan(); !errors.Is(err, pgtide.ErrClosed) {
		t.Errorf("QueryRow on a closed DB: %v, want ErrClosed", err)
	}
}

// A database that was made a moment ago is not at the replicas yet: that is lag,
// no mistake in their DSNs.
func TestOpenWithANewDatabase(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	if err := replica.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	super, err := pgx.Connect(t.Context(), c.Primary().SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.Exec(t.Context(), "create database fresh"); err != nil {
		t.Fatal(err)
	}
	var nodes []pgtide.Node
	for _, n := range c.Nodes() {
		nodes = append(nodes, pgtide.Node{Name: n.Name(), DSN: strings.Replace(n.DSN(), "/app?", "/fresh?", 1)})
	}
	db := open(t, c, pgtide.Options{Nodes: nodes})
	if s := db.Nodes()[1]; s.State != "down" || !strings.Contains(s.Err, "fresh") {
		t.Errorf("the replica without the database: %+v", s)
	}
	if err := replica.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to have the database", func() bool { return db.Nodes()[1].State == "up" })
}
