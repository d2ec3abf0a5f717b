package pgtide_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// A process that was started after the failover knows of it from the server, if
// its role may ask.
func TestTokensFromBeforeTheProcess(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	before := open(t, c, pgtide.Options{})
	keeper, loser := pgtide.NewSession(t.Context()), pgtide.NewSession(t.Context())
	kept := insert(t, keeper, before, "replicated")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Replicas() {
		if err := n.Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, loser, before, "lost")
	keepers, _ := pgtide.TokenFrom(keeper)
	losers, _ := pgtide.TokenFrom(loser)
	before.Close()
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, other := c.Replicas()[0], c.Replicas()[1]
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	if err := other.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Without the right to ask, the primary serves what cannot be proven.
	plain := open(t, c, pgtide.Options{})
	ctx := pgtide.WithToken(t.Context(), keepers)
	read(t, ctx, plain, kept)
	if d := pgtide.Explain(ctx); d[len(d)-1].Role != pgtide.RolePrimary {
		t.Errorf("a token from before the failover, without the right to ask for the history: %v, want the primary", d)
	}
	plain.Close()

	super, err := pgx.Connect(t.Context(), next.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.Exec(t.Context(), "alter role "+c.AppRole()+" replication"); err != nil {
		t.Fatal(err)
	}
	after := open(t, c, pgtide.Options{})
	until(t, "the history to be known", func() bool {
		ctx := pgtide.WithToken(t.Context(), losers)
		if _, err := after.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		return errors.Is(pgtide.Lost(ctx), pgtide.ErrWriteLost)
	})
	until(t, "a replica to serve what was kept", func() bool {
		ctx := pgtide.WithToken(t.Context(), keepers)
		read(t, ctx, after, kept)
		if err := pgtide.Lost(ctx); err != nil {
			t.Fatalf("what was kept is said to be lost: %v", err)
		}
		d := pgtide.Explain(ctx)
		return d[len(d)-1].Role == pgtide.RoleReplica
	})
}
