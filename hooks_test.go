package pgtide_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestHooksSeeEveryAttempt(t *testing.T) {
	t.Parallel()
	type key struct{}
	type end struct {
		decision pgtide.Decision
		err      error
		retry    bool
	}
	var mu sync.Mutex
	var ends []end
	db := open(t, shared, pgtide.Options{MaxStaleness: -1, Hooks: pgtide.Hooks{ // other tests write all the time
		OnDecision: func(ctx context.Context, d pgtide.Decision) context.Context {
			if ctx.Value(key{}) != nil {
				t.Error("an attempt's context was handed to another attempt")
			}
			return context.WithValue(ctx, key{}, d.Attempt)
		},
		OnResult: func(ctx context.Context, d pgtide.Decision, err error, retry bool) {
			if ctx.Value(key{}) != d.Attempt {
				t.Errorf("OnResult of attempt %d got the context of %v", d.Attempt, ctx.Value(key{}))
			}
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, end{d, err, retry})
		},
	}})
	if _, err := db.Exec(pgtide.NewSession(t.Context()), "select write_message('hooks')"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), "select 1/0"); err == nil {
		t.Fatal("no error")
	}
	if len(ends) != 3 {
		t.Fatalf("%d results, want 3: a refusal, a write and an error: %+v", len(ends), ends)
	}
	if e := ends[0]; e.err == nil || !e.retry || e.decision.Role != pgtide.RoleReplica {
		t.Errorf("first attempt ended with %+v, want a replica's refusal and a retry", e)
	}
	if e := ends[1]; e.err != nil || e.retry || e.decision.Attempt != 2 || e.decision.Reason != pgtide.ReasonRefused {
		t.Errorf("second attempt ended with %+v, want success on the primary", e)
	}
	if e := ends[2]; e.err == nil || e.retry {
		t.Errorf("third attempt ended with %+v, want the caller's error", e)
	}
}

func TestHooksSeeNodesChange(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	primaries, nodes := make(chan string, 16), make(chan pgtide.NodeStatus, 64)
	open(t, c, pgtide.Options{Hooks: pgtide.Hooks{
		OnPrimary: func(before, after string, splitBrain bool) { primaries <- before + ">" + after },
		OnNode:    func(before, after pgtide.NodeStatus) { nodes <- after },
	}})
	if got := <-primaries; got != ">node1" {
		t.Errorf("first primary: %s", got)
	}
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-primaries; got != "node1>" {
		t.Errorf("after the primary died: %s", got)
	}
	if err := c.Promote(t.Context(), "node2"); err != nil {
		t.Fatal(err)
	}
	if got := <-primaries; got != ">node2" {
		t.Errorf("after the promotion: %s", got)
	}
	for {
		if n := <-nodes; n.Name == "node2" && n.Role == pgtide.RolePrimary {
			break
		}
	}
}

func TestOpenWithAMinimumOfConnections(t *testing.T) {
	t.Parallel()
	failure := errors.New("not the last one")
	for _, fails := range []bool{false, true} {
		var before atomic.Int64
		db, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: nodes(shared), Configure: func(node string, c *pgxpool.Config) error {
			c.MinConns = 1
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
				before.Add(1)
				return nil
			}
			if node != "node1" {
				// The first node's pool connects now, before there is a watcher; how far
				// it has got sends no signal.
				until(t, "the first pool to connect", func() bool { return before.Load() > 0 })
				<-time.After(50 * time.Millisecond)
			}
			if fails && node == "node3" {
				return failure
			}
			return nil
		}})
		switch {
		case fails && !errors.Is(err, failure):
			t.Errorf("Open with a Configure that fails: %v", err)
		case !fails && err != nil:
			t.Error(err)
		case !fails:
			db.Close()
		}
	}
}

func TestWatcherUsesBeforeConnect(t *testing.T) {
	t.Parallel()
	o := pgtide.Options{Configure: func(_ string, c *pgxpool.Config) error {
		user := c.ConnConfig.User
		c.ConnConfig.User = "nobody"
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.User = user
			return nil
		}
		return nil
	}}
	if _, err := open(t, shared, o).Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	failure := errors.New("not this one")
	_, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: nodes(shared), Configure: func(node string, c *pgxpool.Config) error {
		if node == "node2" {
			return failure
		}
		return nil
	}})
	if !errors.Is(err, failure) {
		t.Errorf("Open with a Configure that fails: %v", err)
	}
	db := open(t, shared, pgtide.Options{Configure: func(node string, c *pgxpool.Config) error {
		c.MaxConns = 3
		return nil
	}})
	for _, n := range db.Stat().Nodes {
		if n.Pool.MaxConns() != 3 {
			t.Errorf("node %s has a pool of %d, want 3", n.Name, n.Pool.MaxConns())
		}
	}
}
