package ent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/workswith/ent/ent"
	"github.com/pgtide/pgtide/e2e/workswith/ent/ent/account"
	"github.com/pgtide/pgtide/e2e/workswith/ent/ent/message"
)

// readAfterWrite makes an account in every way that ent has and looks for it.
func (p *program) readAfterWrite(t *testing.T) {
	for way, write := range map[string]func(ctx context.Context, name string) error{
		"Create": func(ctx context.Context, name string) error { // ent inserts with RETURNING
			a, err := p.client.Account.Create().SetName(name).Save(ctx)
			if err != nil {
				return err
			}
			_, err = p.client.Account.Get(ctx, a.ID)
			return err
		},
		"Create with an edge": func(ctx context.Context, name string) error {
			first := p.client.Message.Create().SetText("first").SaveX(ctx)
			a, err := p.client.Account.Create().SetName(name).AddMessages(first).Save(ctx)
			if err != nil {
				return err
			}
			if err := p.client.Message.Create().SetText("second").SetAccount(a).Exec(ctx); err != nil {
				return err
			}
			if n := a.QueryMessages().CountX(ctx); n != 2 {
				return fmt.Errorf("%d messages, want 2", n)
			}
			owner, err := first.QueryAccount().Only(ctx)
			if err == nil && owner.Name != name {
				err = fmt.Errorf("the message's account is %q", owner.Name)
			}
			return err
		},
		"CreateBulk": func(ctx context.Context, name string) error {
			return p.client.Account.CreateBulk(
				p.client.Account.Create().SetName(name),
				p.client.Account.Create().SetName(name+", another"),
			).Exec(ctx)
		},
		"MapCreateBulk": func(ctx context.Context, name string) error {
			names := []string{name + ", a third", name}
			return p.client.Account.MapCreateBulk(names, func(c *ent.AccountCreate, i int) { c.SetName(names[i]) }).Exec(ctx)
		},
		"upsert": func(ctx context.Context, name string) error {
			for range 2 {
				err := p.client.Account.Create().SetName(name).
					OnConflictColumns(account.FieldName).
					Update(func(u *ent.AccountUpsert) { u.AddVisits(1) }).
					Exec(ctx)
				if err != nil {
					return err
				}
			}
			if n := p.client.Account.Query().Where(account.Name(name)).OnlyX(ctx).Visits; n != 1 {
				return fmt.Errorf("%d visits, want 1", n)
			}
			return nil
		},
		"UpdateOne": func(ctx context.Context, name string) error { // in a transaction of ent's own
			a := p.client.Account.Create().SetName("before " + name).SaveX(ctx)
			m := p.client.Message.Create().SetText("given").SaveX(ctx)
			updated, err := a.Update().SetName(name).AddMessages(m).Save(ctx)
			if err == nil && (updated.Name != name || updated.QueryMessages().CountX(ctx) != 1) {
				err = fmt.Errorf("got %v", updated)
			}
			return err
		},
		"Update": func(ctx context.Context, name string) error {
			p.client.Account.Create().SetName("before " + name).ExecX(ctx)
			n, err := p.client.Account.Update().Where(account.Name("before " + name)).SetName(name).AddVisits(1).Save(ctx)
			if err == nil && n != 1 {
				err = fmt.Errorf("updated %d rows, want 1", n)
			}
			return err
		},
		"ExecContext": func(ctx context.Context, name string) error {
			_, err := p.client.ExecContext(ctx, "insert into accounts (name) values ($1)", name)
			return err
		},
		"QueryContext of an insert": func(ctx context.Context, name string) error {
			rows, err := p.client.QueryContext(ctx, "insert into accounts (name) values ($1) returning id", name)
			if err != nil {
				return err
			}
			defer rows.Close()
			var id int
			return entsql.ScanOne(rows, &id)
		},
		"Tx": func(ctx context.Context, name string) error {
			tx, err := p.client.Tx(ctx)
			if err != nil {
				return err
			}
			if err := tx.Account.Create().SetName(name).Exec(ctx); err != nil {
				return tx.Rollback()
			}
			return tx.Commit()
		},
	} {
		for where, ctx := range scopes(t) {
			name := way + ", " + where
			if err := write(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if _, err := p.client.Account.Query().Where(account.Name(name)).WithMessages().Only(ctx); err != nil {
				t.Errorf("%s: the read after it: %v", name, err)
			}
			if found, err := p.client.Account.Query().Where(account.Name(name)).Exist(ctx); err != nil || !found {
				t.Errorf("%s: exists: %v, %v", name, found, err)
			}
			p.OnReplica(t, "select name from accounts where name = $1", name)
		}
	}
}

// changeAndRemove acts on seeds: a read at a replica would still find them as
// they were.
func (p *program) changeAndRemove(t *testing.T) {
	for where, ctx := range scopes(t) {
		n := 1 + strings.Count(where, "without")
		changed, removed := account.Name(fmt.Sprintf("change me %d", n)), account.Name(fmt.Sprintf("remove me %d", n))
		a := p.client.Account.Query().Where(changed).OnlyX(ctx)
		if err := p.client.Account.UpdateOne(a).AddVisits(7).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if got := p.client.Account.GetX(ctx, a.ID).Visits; got != 7 {
			t.Errorf("%s: %d visits after an update, want 7", where, got)
		}
		p.OnReplica(t, "select visits from accounts where id = $1 and visits <> 0", a.ID)

		if n, err := p.client.Account.Delete().Where(removed).Exec(ctx); err != nil || n != 1 {
			t.Fatalf("%s: deleted %d, %v; want 1", where, n, err)
		}
		if p.client.Account.Query().Where(removed).ExistX(ctx) {
			t.Errorf("%s: a row is there after it was deleted", where)
		}
		stale := pgtide.OnReplica(pgtide.WithConsistency(t.Context(), pgtide.Eventual))
		if !p.client.Account.Query().Where(removed).ExistX(stale) {
			t.Errorf("%s: a replica that was asked for whatever it has lacks the row that was removed", where)
		}
		if err := p.client.Message.DeleteOne(p.client.Message.Create().SetText("short-lived").SaveX(ctx)).Exec(ctx); err != nil {
			t.Error(err)
		}
		if p.client.Message.Query().Where(message.Text("short-lived")).ExistX(ctx) {
			t.Errorf("%s: a message is there after it was deleted", where)
		}
	}
}
