package squirrel

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	sq "github.com/Masterminds/squirrel"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

func TestDatabaseSQL(t *testing.T) {
	c := paused.New(t, schema)
	db := c.SQL(t)
	cache := sq.NewStmtCache(db)
	t.Cleanup(func() {
		if err := cache.Clear(); err != nil {
			t.Error(err)
		}
	})
	t.Run("RunWith DB", func(t *testing.T) { program(t, c, db, db, "db ") })
	t.Run("RunWith StmtCache", func(t *testing.T) { program(t, c, db, cache, "cache ") })
}

// program runs statements with runner. prefix tells its rows apart.
func program(t *testing.T, c *paused.Cluster, db *sql.DB, runner sq.BaseRunner, prefix string) {
	b := psql.RunWith(runner)

	t.Run("reads are served by replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		seeded := b.Select("name").From("item").Where(sq.Eq{"name": []string{"apple", "pear"}}).OrderBy("name")
		var names []string
		rows, err := seeded.QueryContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		if rows.Err() != nil || len(names) != 2 || names[1] != "pear" {
			t.Errorf("read %v, %v", names, rows.Err())
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var total int
		if err := b.Select("sum(price)").FromSelect(psql.Select("*").From("item").Where(sq.Lt{"id": 3}), "seeded").ScanContext(ctx, &total); err != nil || total != 8 {
			t.Errorf("a subquery: %d, %v", total, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if err := seeded.Prefix("/* pgtide: primary */").Limit(1).QueryRowContext(ctx).Scan(new(string)); err != nil {
			t.Error(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if err := seeded.Suffix("for update").Limit(1).QueryRowContext(ctx).Scan(new(string)); err != nil {
			t.Errorf("a locking read: %v", err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if err := b.Select("id").From("item").Where("false").ScanContext(ctx, new(int64)); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("no row: %v, want sql.ErrNoRows", err)
		}
	})

	t.Run("what is written is read", func(t *testing.T) {
		insert := b.Insert("item").Columns("name", "price")
		for way, write := range map[string]func(ctx context.Context, name string) error{
			"Exec": func(ctx context.Context, name string) error {
				_, err := insert.Values(name, 1).ExecContext(ctx)
				return err
			},
			"many rows": func(ctx context.Context, name string) error {
				r, err := insert.Values(name, 1).Values(name+" too", 2).ExecContext(ctx)
				if err != nil {
					return err
				}
				if n, err := r.RowsAffected(); err != nil || n != 2 {
					t.Errorf("%d rows, %v, want 2", n, err)
				}
				return nil
			},
			"returning": func(ctx context.Context, name string) error {
				return insert.Values(name, 1).Suffix("returning id").ScanContext(ctx, new(int64))
			},
			"upsert": func(ctx context.Context, name string) error {
				_, err := b.Insert("item").SetMap(map[string]any{"name": name, "price": sq.Expr("1 + ?", 1)}).
					Suffix("on conflict (name) do update set price = excluded.price").ExecContext(ctx)
				return err
			},
			"insert of a select": func(ctx context.Context, name string) error {
				_, err := b.Insert("item").Columns("name").Select(psql.Select().Column("?::text", name)).ExecContext(ctx)
				return err
			},
			"select from an insert": func(ctx context.Context, name string) error {
				return b.Select("id").Prefix("with new as (insert into item (name) values (?) returning id)", name).
					From("new").ScanContext(ctx, new(int64))
			},
			"transaction": func(ctx context.Context, name string) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				if _, err := insert.Values(name, 1).RunWith(tx).ExecContext(ctx); err != nil {
					return err
				}
				return tx.Commit()
			},
		} {
			for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
				name := prefix + way + ", " + where
				if err := write(ctx, name); err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				var found string
				if err := b.Select("name").From("item").Where(sq.Eq{"name": name}).ScanContext(ctx, &found); err != nil {
					t.Errorf("%s: the read: %v", name, err)
				}
				c.OnReplica(t, "select from item where name = $1", name)
			}
		}
		if _, err := insert.Values(prefix+"without a context", 1).Exec(); err != nil {
			t.Fatal(err)
		}
		if err := b.Select("id").From("item").Where("name = ?", prefix+"without a context").Scan(new(int64)); err != nil {
			t.Errorf("without a context: %v", err)
		}
	})

	t.Run("update and delete", func(t *testing.T) {
		for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
			mine := sq.Eq{"name": prefix + "plum, " + where}
			if _, err := b.Insert("item").SetMap(mine).ExecContext(ctx); err != nil {
				t.Fatal(err)
			}
			var price int
			if err := b.Update("item").Set("price", 7).Where(mine).Suffix("returning price").ScanContext(ctx, &price); err != nil || price != 7 {
				t.Errorf("%s: update returning: %d, %v", where, price, err)
			}
			if err := b.Select("price").From("item").Where(mine).ScanContext(ctx, &price); err != nil || price != 7 {
				t.Errorf("%s: after the update: %d, %v", where, price, err)
			}
			if _, err := b.Delete("item").Where(mine).ExecContext(ctx); err != nil {
				t.Fatal(err)
			}
			if err := b.Select("price").From("item").Where(mine).ScanContext(ctx, &price); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s: after the delete: %v, want no row", where, err)
			}
		}
	})

	t.Run("transactions", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		// A cache on a transaction prepares there.
		b, name := psql.RunWith(sq.NewStmtCache(tx)), prefix+"undone"
		for i := range 2 {
			if _, err := b.Insert("item").Columns("name").Values(name + string(rune('0'+i))).ExecContext(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var n int
		undone := psql.Select("count(*)").From("item").Where(sq.Like{"name": name + "%"})
		if err := undone.RunWith(tx).ScanContext(ctx, &n); err != nil || n != 2 {
			t.Errorf("in the transaction: %d, %v, want its own 2 rows", n, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := undone.RunWith(runner).ScanContext(ctx, &n); err != nil || n != 0 {
			t.Errorf("after the rollback: %d, %v, want none", n, err)
		}
	})

	t.Run("a read-only transaction is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		b := psql.RunWith(tx)
		var n int
		if err := b.Select("count(*)").From("item").ScanContext(ctx, &n); err != nil || n != 2 {
			t.Errorf("%d, %v, want the 2 seeded rows, as nothing was written in the session", n, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		_, err = b.Delete("item").ExecContext(ctx)
		paused.Refused(t, err, "25006")
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		twin := b.Insert("item").Columns("name").Values("apple")
		_, err := twin.ExecContext(ctx)
		paused.Refused(t, err, "23505")
		paused.Refused(t, twin.Suffix("returning id").ScanContext(ctx, new(int64)), "23505")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := b.Select("*").From("item").QueryContext(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
