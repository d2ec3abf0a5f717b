package pgtide_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// shared is a cluster of a primary and two replicas for tests that leave it as
// they found it. Tests that break a cluster start their own.
var shared *lab.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if shared, err = lab.Start(ctx, lab.Options{Replicas: 2}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.Close()
	conn, err := pgx.Connect(ctx, shared.Primary().DSN())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, schema); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := shared.WaitCaughtUp(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const schema = `
create table message (id bigint generated always as identity primary key, text text not null);
create table pair (k text primary key, v text not null);
create function write_message(t text) returns bigint language sql as
	$$ insert into message (text) values (t) returning id $$;
`

// start makes a cluster of the test's own.
func start(t *testing.T, o lab.Options) *lab.Cluster {
	t.Helper()
	c, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// nodes lists a cluster's nodes for Options.
func nodes(c *lab.Cluster) []pgtide.Node {
	var out []pgtide.Node
	for _, n := range c.Nodes() {
		out = append(out, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	return out
}

// open opens a DB on c until the end of the test.
func open(t *testing.T, c *lab.Cluster, o pgtide.Options) *pgtide.DB {
	t.Helper()
	if o.DSN == "" && o.Nodes == nil {
		o.Nodes = nodes(c)
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// last returns the newest decision of ctx's session.
func last(t *testing.T, ctx context.Context) pgtide.Decision {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 {
		t.Fatal("the session has no decisions")
	}
	return all[len(all)-1]
}

// until polls for a state of real servers, which send no signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
