package bun_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/uptrace/bun"

	"github.com/pgtide/pgtide"
)

// readAfterWrite makes an author in every way that bun has and looks for it.
func (p *program) readAfterWrite(t *testing.T) {
	db := p.db
	for way, write := range map[string]func(ctx context.Context, name string) error{
		"insert": func(ctx context.Context, name string) error { // bun asks for the id with RETURNING
			a := &Author{Name: name, Tags: []string{"x", "y"}}
			if _, err := db.NewInsert().Model(a).Exec(ctx); err != nil {
				return err
			}
			again := &Author{ID: a.ID}
			if err := db.NewSelect().Model(again).WherePK().Scan(ctx); err != nil {
				return err
			}
			if a.ID == 0 || len(again.Tags) != 2 {
				return fmt.Errorf("made %v, found %v", a, again)
			}
			return nil
		},
		"bulk insert": func(ctx context.Context, name string) error {
			authors := []Author{{Name: name}, {Name: name + ", another"}, {Name: name + ", a third"}}
			if _, err := db.NewInsert().Model(&authors).Exec(ctx); err != nil {
				return err
			}
			books := []Book{{AuthorID: authors[0].ID, Title: "a"}, {AuthorID: authors[0].ID, Title: "b"}}
			if _, err := db.NewInsert().Model(&books).Exec(ctx); err != nil {
				return err
			}
			a := &Author{ID: authors[0].ID}
			if err := db.NewSelect().Model(a).Relation("Books").WherePK().Scan(ctx); err != nil || len(a.Books) != 2 {
				return fmt.Errorf("%d books, %w", len(a.Books), err)
			}
			return nil
		},
		"insert from a map": func(ctx context.Context, name string) error {
			_, err := db.NewInsert().Model(&map[string]any{"name": name}).TableExpr("authors").Exec(ctx)
			return err
		},
		"insert from a select": func(ctx context.Context, name string) error {
			_, err := db.NewRaw("insert into authors (name) select ? from authors where name = ? returning id", name, "seed").Exec(ctx)
			return err
		},
		"upsert": func(ctx context.Context, name string) error {
			for range 2 {
				_, err := db.NewInsert().Model(&Author{Name: name}).On("conflict (name) do update").Set("visits = author.visits + 1").Exec(ctx)
				if err != nil {
					return err
				}
			}
			return db.NewSelect().Model(&Author{}).Where("name = ? and visits = 1", name).Scan(ctx)
		},
		"update returning": func(ctx context.Context, name string) error {
			a := &Author{Name: "before " + name}
			if _, err := db.NewInsert().Model(a).Exec(ctx); err != nil {
				return err
			}
			var got string
			err := db.NewUpdate().Model(a).Set("name = ?", name).WherePK().Returning("name").Scan(ctx, &got)
			if err == nil && got != name {
				err = fmt.Errorf("returned %q", got)
			}
			return err
		},
		"bulk update": func(ctx context.Context, name string) error {
			authors := []Author{{Name: "before " + name}, {Name: "beside " + name}}
			if _, err := db.NewInsert().Model(&authors).Exec(ctx); err != nil {
				return err
			}
			authors[0].Name = name
			_, err := db.NewUpdate().Model(&authors).Column("name").Bulk().Exec(ctx)
			return err
		},
		"a select whose CTE writes": func(ctx context.Context, name string) error {
			made := db.NewInsert().Model(&Author{Name: name}).Returning("id, name")
			var got string
			err := db.NewSelect().With("made", made).TableExpr("made").Column("name").Scan(ctx, &got)
			if err == nil && got != name {
				err = fmt.Errorf("returned %q", got)
			}
			return err
		},
		"NewRaw returning": func(ctx context.Context, name string) error {
			var id int64
			return db.NewRaw("insert into authors (name) values (?) returning id", name).Scan(ctx, &id)
		},
		"ExecContext": func(ctx context.Context, name string) error {
			_, err := db.ExecContext(ctx, "insert into authors (name) values (?)", name)
			return err
		},
		"QueryRowContext": func(ctx context.Context, name string) error {
			var id int64
			return db.QueryRowContext(ctx, "insert into authors (name) values (?) returning id", name).Scan(&id)
		},
		"PrepareContext": func(ctx context.Context, name string) error {
			stmt, err := db.PrepareContext(ctx, "insert into authors (name) values ($1) returning id")
			if err != nil {
				return err
			}
			defer stmt.Close()
			var id int64
			return stmt.QueryRowContext(ctx, name).Scan(&id)
		},
		"RunInTx": func(ctx context.Context, name string) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewInsert().Model(&Author{Name: name}).Exec(ctx)
				return err
			})
		},
	} {
		for where, ctx := range scopes(t) {
			name := fmt.Sprintf("%s, %s, %s", p.name, way, where)
			if err := write(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := p.find(ctx, db, name); err != nil {
				t.Errorf("%s: the read after it: %v", name, err)
			}
			if found, err := db.NewSelect().Model((*Author)(nil)).Where("name = ?", name).Exists(ctx); err != nil || !found {
				t.Errorf("%s: exists: %v, %v", name, found, err)
			}
			p.OnReplica(t, "select name from authors where name = $1", name)
		}
	}
}

// changeAndRemove acts on seeds: a read at a replica would still find them as
// they were.
func (p *program) changeAndRemove(t *testing.T) {
	for where, ctx := range scopes(t) {
		*p.row++
		changed, removed := fmt.Sprintf("change me %d", *p.row), fmt.Sprintf("remove me %d", *p.row)
		if _, err := p.db.NewUpdate().Model((*Author)(nil)).Set("visits = 7").Where("name = ?", changed).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		var a Author
		if err := p.db.NewSelect().Model(&a).Where("name = ?", changed).Scan(ctx); err != nil || a.Visits != 7 {
			t.Errorf("%s: %d visits after an update, %v; want 7", where, a.Visits, err)
		}
		p.OnReplica(t, "select name from authors where name = $1 and visits <> 0", changed)

		if _, err := p.db.NewDelete().Model((*Author)(nil)).Where("name = ?", removed).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if err := p.find(ctx, p.db, removed); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("%s: after a soft delete: %v, want sql.ErrNoRows", where, err)
		}
		all := p.db.NewSelect().Model((*Author)(nil)).Where("name = ?", removed).WhereAllWithDeleted()
		if n, err := all.Count(ctx); err != nil || n != 1 {
			t.Errorf("%s: what was deleted softly: %d, %v; want 1", where, n, err)
		}
		if _, err := p.db.NewDelete().Model((*Author)(nil)).Where("name = ?", removed).WhereAllWithDeleted().ForceDelete().Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if n, err := all.Count(ctx); err != nil || n != 0 {
			t.Errorf("%s: after a delete: %d, %v; want 0", where, n, err)
		}
		stale := pgtide.OnReplica(pgtide.WithConsistency(t.Context(), pgtide.Eventual))
		if err := p.find(stale, p.db, removed); err != nil {
			t.Errorf("%s: a replica that was asked for whatever it has: %v, want the row that was removed", where, err)
		}
	}
}
