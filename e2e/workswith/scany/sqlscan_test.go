package scany

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/georgysavva/scany/v2/sqlscan"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

func TestSqlscan(t *testing.T) {
	c := paused.New(t, schema)
	db := c.SQL(t)

	t.Run("reads are served by replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var users []*user
		if err := sqlscan.Select(ctx, db, &users, "select * from users order by user_id"); err != nil || len(users) != 2 || *users[0].Age != 30 || users[1].Email != nil {
			t.Fatalf("Select: %v, %v", users, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var nested []authored
		if err := sqlscan.Select(ctx, db, &nested, posts); err != nil || len(nested) != 1 || nested[0].Author.FullName != "Ann Lee" {
			t.Errorf("nested structs: %v, %v", nested, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		stmt, err := db.PrepareContext(ctx, byID)
		if err != nil {
			t.Fatal(err)
		}
		defer stmt.Close()
		rows, err := stmt.QueryContext(ctx, "ann")
		if err != nil {
			t.Fatal(err)
		}
		var ann user
		if err := sqlscan.ScanOne(&ann, rows); err != nil || ann.FullName != "Ann Lee" {
			t.Errorf("prepared: %v, %v", ann, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if err := sqlscan.Get(ctx, db, &ann, byID+" for update", "ann"); err != nil {
			t.Errorf("a locking read: %v", err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("what is written is read", func(t *testing.T) {
		for way, write := range map[string]func(ctx context.Context, id string) error{
			"Get": func(ctx context.Context, id string) error {
				return sqlscan.Get(ctx, db, new(user), insert+" returning *", id)
			},
			"Select": func(ctx context.Context, id string) error {
				return sqlscan.Select(ctx, db, &[]user{}, insert+" returning *", id)
			},
			"many rows": func(ctx context.Context, id string) error {
				return sqlscan.Select(ctx, db, &[]user{}, "insert into users (user_id, full_name) values ($1, 'New User'), ($2, '') returning *", id, id+" too")
			},
			"transaction": func(ctx context.Context, id string) error {
				tx, err := db.BeginTx(ctx, nil)
				if err != nil {
					return err
				}
				defer tx.Rollback()
				if err := sqlscan.Get(ctx, tx, new(user), insert+" returning *", id); err != nil {
					return err
				}
				if err := sqlscan.Get(ctx, tx, new(user), byID, id); err != nil {
					t.Errorf("in the transaction: %v, want its own write", err)
				}
				return tx.Commit()
			},
			"connection": func(ctx context.Context, id string) error {
				conn, err := db.Conn(ctx)
				if err != nil {
					return err
				}
				defer conn.Close()
				return sqlscan.Get(ctx, conn, new(user), insert+" returning *", id)
			},
		} {
			for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
				id := way + ", " + where
				if err := write(ctx, id); err != nil {
					t.Errorf("%s: %v", id, err)
					continue
				}
				var got user
				if err := sqlscan.Get(ctx, db, &got, byID, id); err != nil || got.FullName != "New User" {
					t.Errorf("%s: read %v, %v", id, got, err)
				}
				c.OnReplica(t, byID, id)
			}
		}
	})

	t.Run("update and delete", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.ExecContext(ctx, insert, "kim"); err != nil {
			t.Fatal(err)
		}
		var got user
		if err := sqlscan.Get(ctx, db, &got, "update users set age = 40 where user_id = $1 returning *", "kim"); err != nil || *got.Age != 40 {
			t.Errorf("update: %v, %v", got, err)
		}
		if err := sqlscan.Get(ctx, db, &got, byID, "kim"); err != nil || *got.Age != 40 {
			t.Errorf("after the update: %v, %v", got, err)
		}
		if _, err := db.ExecContext(ctx, "delete from users where user_id = $1", "kim"); err != nil {
			t.Fatal(err)
		}
		if err := sqlscan.Get(ctx, db, &got, byID, "kim"); !sqlscan.NotFound(err) {
			t.Errorf("after the delete: %v, %v, want no row", got, err)
		}
	})

	t.Run("a read-only transaction is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		var ids []string
		if err := sqlscan.Select(ctx, tx, &ids, "select user_id from users"); err != nil || len(ids) != 2 {
			t.Errorf("read %v, %v, want the seeded rows, as nothing was written in the session", ids, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		paused.Refused(t, sqlscan.Get(ctx, tx, new(user), insert+" returning *", "nobody"), "25006")
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		paused.Refused(t, sqlscan.Get(ctx, db, new(user), insert+" returning *", "ann"), "23505")
		paused.Refused(t, sqlscan.Select(ctx, db, &[]user{}, "select * from users where 1/(age-30) > 0"), "22012")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if err := sqlscan.Get(canceled, db, new(user), byID, "ann"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
