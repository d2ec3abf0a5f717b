package ent_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/workswith/ent/ent"
	"github.com/pgtide/pgtide/e2e/workswith/ent/ent/account"
)

// withTx is the helper from ent's documentation.
func withTx(ctx context.Context, client *ent.Client, o *sql.TxOptions, f func(*ent.Client) error) error {
	tx, err := client.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	if err := f(tx.Client()); err != nil {
		if undo := tx.Rollback(); undo != nil {
			err = fmt.Errorf("%w: rolling back: %v", err, undo)
		}
		return err
	}
	return tx.Commit()
}

var errUndo = errors.New("undo")

func (p *program) transactions(t *testing.T) {
	for where, ctx := range scopes(t) {
		kept, undone := "kept "+where, "undone "+where
		insert := func(name string, end error) func(*ent.Client) error {
			return func(client *ent.Client) error {
				a, err := client.Account.Create().SetName(name).Save(ctx)
				if err != nil {
					return err
				}
				if err := client.Message.Create().SetText("hi").SetAccount(a).Exec(ctx); err != nil {
					return err
				}
				if a, err = client.Account.Query().Where(account.ID(a.ID)).WithMessages().Only(ctx); err != nil || len(a.Edges.Messages) != 1 {
					t.Errorf("%s: a transaction does not see what it wrote: %v, %v", where, a, err)
				}
				return end
			}
		}
		if err := withTx(ctx, p.client, nil, insert(kept, nil)); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if a, err := p.client.Account.Query().Where(account.Name(kept)).WithMessages().Only(ctx); err != nil || len(a.Edges.Messages) != 1 {
			t.Errorf("%s: what was committed: %v, %v", where, a, err)
		}
		p.OnReplica(t, "select from accounts where name = $1", kept)

		o := &sql.TxOptions{Isolation: sql.LevelSerializable}
		if err := withTx(ctx, p.client, o, insert(undone, errUndo)); !errors.Is(err, errUndo) {
			t.Fatalf("%s: %v", where, err)
		}
		if p.client.Account.Query().Where(account.Name(undone)).ExistX(ctx) {
			t.Errorf("%s: what was rolled back is there", where)
		}

		cancelled, cancel := context.WithCancel(ctx)
		err := withTx(cancelled, p.client, nil, func(client *ent.Client) error {
			if err := client.Account.Create().SetName(undone).Exec(cancelled); err != nil {
				return err
			}
			cancel()
			return client.Account.Query().Where(account.Name(undone)).Select(account.FieldName).Scan(cancelled, new([]string))
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a transaction cancelled: %v, want context.Canceled", where, err)
		}
		if p.client.Account.Query().Where(account.Name(undone)).ExistX(ctx) {
			t.Errorf("%s: what was cancelled is there", where)
		}
	}
}

func (p *program) readOnly(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	err := withTx(ctx, p.client, &sql.TxOptions{ReadOnly: true}, func(client *ent.Client) error {
		a, err := client.Account.Query().Where(account.Name("seed")).WithMessages().Only(ctx)
		if err != nil || len(a.Edges.Messages) != 2 {
			t.Errorf("got %v, %v; want an account with 2 messages", a, err)
		}
		allOnReplicas(t, ctx)
		return client.Account.Create().SetName("never").Exec(ctx)
	})
	if code(err) != "25006" {
		t.Errorf("a write in a read-only transaction: %v, want 25006", err)
	}
	// One that follows a write of its session sees it.
	a := p.client.Account.Create().SetName("before a read-only transaction").SaveX(ctx)
	err = withTx(ctx, p.client, &sql.TxOptions{ReadOnly: true}, func(client *ent.Client) error {
		_, err := client.Account.Get(ctx, a.ID)
		return err
	})
	if err != nil {
		t.Errorf("a read-only transaction after a write: %v", err)
	}
}

func (p *program) locking(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	lock := entsql.WithLockAction(entsql.SkipLocked)
	p.client.Account.Query().Where(account.Name("seed")).ForUpdate(lock).OnlyX(ctx)
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("a locking read: %v, want the primary", d)
	}
	err := withTx(ctx, p.client, nil, func(client *ent.Client) error {
		a, err := client.Account.Query().Where(account.Name("seed")).ForUpdate(lock).Only(ctx)
		if err != nil {
			return err
		}
		// Somebody else does not get it.
		_, other := p.client.Account.Query().Where(account.Name("seed")).ForUpdate(lock).Only(t.Context())
		if !ent.IsNotFound(other) {
			t.Errorf("a row that is locked: %v, want it skipped", other)
		}
		return a.Update().AddVisits(1).Exec(ctx)
	})
	if err != nil {
		t.Error(err)
	}
}

// variables reads with something set on the server session, as for row-level
// security: it must reach the statement, and nobody else.
func (p *program) variables(t *testing.T) {
	isBlue := func(s *entsql.Selector) {
		s.Where(entsql.ExprP("current_setting('app.tenant', true) = 'blue'"))
	}
	seedOf := func(client *ent.Client) *ent.AccountQuery {
		return client.Account.Query().Where(account.Name("seed"), isBlue)
	}
	seed := seedOf(p.client)
	ctx := pgtide.NewSession(t.Context())
	if !seed.Clone().ExistX(entsql.WithVar(ctx, "app.tenant", "blue")) {
		t.Error("the variable has not reached the statement")
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("a read behind a SET: %v, want the primary", d)
	}
	nobodyElse := func(way string) {
		t.Helper()
		for _, node := range p.Nodes() {
			anyhow := pgtide.WithConsistency(t.Context(), pgtide.Eventual)
			if seed.Clone().ExistX(pgtide.OnNode(anyhow, node.Name())) {
				t.Errorf("%s: the variable has reached another user of %s", way, node.Name())
			}
		}
	}
	nobodyElse("WithVar")

	// Within a transaction ent sets it and never resets it.
	err := withTx(ctx, p.client, nil, func(client *ent.Client) error {
		found, err := seedOf(client).Exist(entsql.WithVar(ctx, "app.tenant", "blue"))
		if err == nil && !found {
			err = errors.New("it has not reached the statement")
		}
		return err
	})
	if err != nil {
		t.Errorf("WithVar in a transaction: %v", err)
	}
	nobodyElse("WithVar in a transaction")

	// For a replica, and at no price: a read-only transaction.
	local := pgtide.NewSession(t.Context())
	err = withTx(local, p.client, &sql.TxOptions{ReadOnly: true}, func(client *ent.Client) error {
		if _, err := client.ExecContext(local, "set local app.tenant = 'blue'"); err != nil {
			return err
		}
		found, err := seedOf(client).Exist(local)
		if err == nil && !found {
			err = errors.New("it has not reached the statement")
		}
		return err
	})
	if err != nil {
		t.Errorf("set local: %v", err)
	}
	allOnReplicas(t, local)
	nobodyElse("set local")
}
