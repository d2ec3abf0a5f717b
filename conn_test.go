package pgtide_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pgtide/pgtide"
)

func TestAcquireFunc(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	failure := errors.New("failure")
	if err := db.AcquireFunc(t.Context(), func(c *pgtide.Conn) error {
		if c.Node() != shared.Primary().Name() {
			t.Errorf("a connection to %s, want the primary", c.Node())
		}
		return failure
	}); err != failure {
		t.Errorf("AcquireFunc: %v, want the function's error", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.AcquireFunc(ended, func(*pgtide.Conn) error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("AcquireFunc with an ended context: %v", err)
	}
	released(t, db)
}

func TestHijack(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	c, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := c.Hijack()
	defer conn.Close(context.WithoutCancel(t.Context()))
	c.Release()
	if again := c.Hijack(); again != nil {
		t.Error("a second Hijack returns a connection")
	}
	released(t, db)
	if _, err := conn.Exec(t.Context(), "listen hijacked"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), "notify hijacked, 'news'"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.WaitForNotification(t.Context()); err != nil || n.Payload != "news" {
		t.Errorf("notified of %v, %v", n, err)
	}
	db.Close() // it does not wait for what was taken out
}

func TestReset(t *testing.T) {
	t.Parallel()
	db := alone(t)
	pid := func() (pid int) {
		if err := db.QueryRow(pgtide.OnPrimary(t.Context()), "select pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before := pid()
	if again := pid(); again != before {
		t.Fatalf("process %d served the next call, want %d", again, before)
	}
	db.Reset()
	if after := pid(); after == before {
		t.Error("the connection is still the one from before Reset")
	}
}

// released fails the test if a connection of db stays taken.
func released(t *testing.T, db *pgtide.DB) {
	t.Helper()
	// A pool closes broken connections in the background.
	until(t, "all connections to be given back", func() bool {
		for _, n := range db.Stat().Nodes {
			if n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
				return false
			}
		}
		return true
	})
}
