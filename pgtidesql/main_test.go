package pgtidesql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// paused is a cluster whose replica replays nothing: any misrouted read misses
// what was written.
var paused *lab.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer paused.Close()
	return m.Run()
}

func prepare(ctx context.Context) (err error) {
	if paused, err = lab.Start(ctx, lab.Options{Replicas: 1}); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, paused.Primary().DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	const schema = `
		create table message (id bigint generated always as identity primary key, text text not null);
		create function write_message(t text) returns bigint language sql as
			$$ insert into message (text) values (t) returning id $$`
	if _, err := conn.Exec(ctx, schema); err != nil {
		return err
	}
	if err := paused.WaitCaughtUp(ctx); err != nil {
		return err
	}
	return paused.Replicas()[0].PauseReplay(ctx)
}

// open opens both fronts on the paused cluster.
func open(t *testing.T) (*pgtide.DB, *sql.DB) {
	t.Helper()
	o := pgtide.Options{MaxStaleness: -1}
	for _, n := range paused.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	sqldb := pgtidesql.Open(db)
	t.Cleanup(func() { sqldb.Close(); db.Close() })
	return db, sqldb
}

// idle fails the test if a connection of a node stays taken. A pool closes
// connections in the background, without a signal.
func idle(t *testing.T, db *pgtide.DB) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for _, n := range db.Stat().Nodes {
		for n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
			if time.Now().After(deadline) {
				t.Fatalf("node %s: %d calls in flight and %d connections taken, want none", n.Name, n.InFlight, n.Pool.AcquiredConns())
			}
			<-time.After(time.Millisecond)
			for _, again := range db.Stat().Nodes {
				if again.Name == n.Name {
					n = again
				}
			}
		}
	}
}

func last(t *testing.T, ctx context.Context) pgtide.Decision {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 {
		t.Fatal("the session has no decisions")
	}
	return all[len(all)-1]
}
