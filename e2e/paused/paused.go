// Package paused runs programs of other libraries on a cluster whose replicas
// have stopped replaying: whatever they write stays invisible there, so that a
// read that is sent to the wrong node misses it every time.
package paused

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// Cluster is a primary with two replicas, and a DB on them.
type Cluster struct {
	*lab.Cluster
	DB *pgtide.DB
}

// New starts a cluster, runs schema on its primary, waits until the replicas
// have it and stops their replay. All of it ends with the test, which fails if
// no replica has served a read by then: it would have proven nothing.
func New(t *testing.T, schema string) *Cluster {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 2})
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
	for _, r := range c.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p := &Cluster{Cluster: c}
	// Nothing is worth a wait here, and replicas that lag for ever are wanted.
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	if p.DB, err = pgtide.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.DB.Close)
	t.Cleanup(func() {
		if p.ReplicaReads() == 0 && !t.Failed() {
			t.Error("no call was served by a replica: the program was not put to the test")
		}
	})
	return p
}

// SQL returns a *sql.DB over c.DB, closed with the test.
func (c *Cluster) SQL(t *testing.T) *sql.DB {
	db := pgtidesql.Open(c.DB)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// ReplicaReads counts the calls that replicas have served so far.
func (c *Cluster) ReplicaReads() int64 {
	var n int64
	d := c.DB.Stat().Decisions
	for _, why := range []pgtide.Reason{pgtide.ReasonFresh, pgtide.ReasonSticky, pgtide.ReasonWaited, pgtide.ReasonAny} {
		n += d[why]
	}
	return n
}

// Replay lets the replicas go on and waits until they have everything.
func (c *Cluster) Replay(t *testing.T) {
	t.Helper()
	for _, r := range c.Replicas() {
		if err := r.ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// OnReplica runs a query past pgtide, on the first replica, as a router would
// that knows nothing of what was written. It fails the test unless the query
// finds no row or no table: the control of a read that finds one.
func (c *Cluster) OnReplica(t *testing.T, query string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.Replicas()[0].DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, _ := conn.Query(t.Context(), query, args...)
	found, err := pgx.CollectRows(rows, pgx.RowToMap)
	var undefined *pgconn.PgError
	if errors.As(err, &undefined) && undefined.Code == "42P01" {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 0 {
		t.Fatalf("a paused replica shows %v: its replay is not paused", found)
	}
}
