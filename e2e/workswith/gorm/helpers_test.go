package gorm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// openWith opens another DB on the cluster, whose connections are configured.
func openWith(t *testing.T, c *paused.Cluster, configure func(*pgx.ConnConfig)) *pgtide.DB {
	t.Helper()
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	o.Configure = func(_ string, config *pgxpool.Config) error {
		configure(config.ConnConfig)
		return nil
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// scopes are the two kinds of context that a write and the read after it have.
func scopes(t *testing.T) map[string]context.Context {
	return map[string]context.Context{
		"in a session":      pgtide.NewSession(t.Context()),
		"without a session": t.Context(),
	}
}

// last is the newest decision in the session of ctx.
func last(t *testing.T, ctx context.Context) pgtide.Decision {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 {
		t.Fatal("the session has no decisions")
	}
	return all[len(all)-1]
}

// allOnReplicas fails the test unless replicas have served the session of ctx,
// and nobody else.
func allOnReplicas(t *testing.T, ctx context.Context) {
	t.Helper()
	last(t, ctx)
	for _, d := range pgtide.Explain(ctx) {
		if d.Role != pgtide.RoleReplica {
			t.Errorf("%v, want a replica", d)
		}
	}
}

// nothingTaken fails the test if a connection of a node stays taken. A pool
// closes connections in the background, without a signal.
func nothingTaken(t *testing.T, tide *pgtide.DB) {
	t.Helper()
	taken := func() (n int64) {
		for _, node := range tide.Stat().Nodes {
			n += node.InFlight + int64(node.Pool.AcquiredConns())
		}
		return n
	}
	for deadline := time.Now().Add(5 * time.Second); taken() != 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls and connections are still taken, want none", taken())
		}
	}
}

// code is that of the server's error in err.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
