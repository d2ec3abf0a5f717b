package scany

import (
	"context"
	"errors"
	"testing"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

var (
	_ pgxscan.Querier = (*pgtide.DB)(nil)
	_ pgxscan.Querier = (*pgtide.Conn)(nil)
)

func TestPgxscan(t *testing.T) {
	c := paused.New(t, schema)
	db := c.DB

	t.Run("reads are served by replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var users []*user
		if err := pgxscan.Select(ctx, db, &users, "select * from users order by user_id"); err != nil || len(users) != 2 || *users[0].Age != 30 || users[1].Email != nil {
			t.Fatalf("Select: %v, %v", users, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var ann user
		if err := pgxscan.Get(ctx, db, &ann, byID, "ann"); err != nil || ann.FullName != "Ann Lee" {
			t.Errorf("Get: %v, %v", ann, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var nested []authored
		if err := pgxscan.Select(ctx, db, &nested, posts); err != nil || len(nested) != 1 || nested[0].Author.FullName != "Ann Lee" {
			t.Errorf("nested structs: %v, %v", nested, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var n int
		if err := pgxscan.Get(ctx, db, &n, "select count(*) from users where age > @age", pgx.NamedArgs{"age": 18}); err != nil || n != 1 {
			t.Errorf("named arguments: %d, %v", n, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if err := pgxscan.Get(ctx, db, &ann, byID+" for update", "ann"); err != nil {
			t.Errorf("a locking read: %v", err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if err := pgxscan.Get(pgtide.OnPrimary(ctx), db, &ann, byID, "ann"); err != nil {
			t.Error(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("rows one by one", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		rows, err := db.Query(ctx, "select * from users order by user_id")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		scanner := pgxscan.NewRowScanner(rows)
		var ids []string
		for rows.Next() {
			var u user
			if err := scanner.Scan(&u); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, u.UserID)
		}
		if rows.Err() != nil || len(ids) != 2 || ids[1] != "bob" {
			t.Errorf("read %v, %v", ids, rows.Err())
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
	})

	t.Run("what is written is read", func(t *testing.T) {
		for way, write := range map[string]func(ctx context.Context, id string) error{
			"Get": func(ctx context.Context, id string) error {
				return pgxscan.Get(ctx, db, new(user), insert+" returning *", id)
			},
			"Select": func(ctx context.Context, id string) error {
				return pgxscan.Select(ctx, db, &[]user{}, insert+" returning *", id)
			},
			"Get of a common table expression": func(ctx context.Context, id string) error {
				return pgxscan.Get(ctx, db, new(user), "with new as ("+insert+" returning *) select * from new", id)
			},
			"ScanOne of a batch": func(ctx context.Context, id string) error {
				b := &pgx.Batch{}
				b.Queue(insert, id+" too")
				b.Queue(insert+" returning *", id).Query(func(rows pgx.Rows) error { return pgxscan.ScanOne(new(user), rows) })
				return db.SendBatch(ctx, b).Close()
			},
			"transaction": func(ctx context.Context, id string) error {
				return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return pgxscan.Get(ctx, tx, new(user), insert+" returning *", id) })
			},
			"connection": func(ctx context.Context, id string) error {
				conn, err := db.Acquire(ctx)
				if err != nil {
					return err
				}
				defer conn.Release()
				return pgxscan.Get(ctx, conn, new(user), insert+" returning *", id)
			},
			"many rows": func(ctx context.Context, id string) error {
				_, err := db.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"user_id", "full_name"}, pgx.CopyFromRows([][]any{{id, "New User"}, {id + " too", ""}}))
				return err
			},
		} {
			for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
				id := way + ", " + where
				if err := write(ctx, id); err != nil {
					t.Errorf("%s: %v", id, err)
					continue
				}
				var got user
				if err := pgxscan.Get(ctx, db, &got, byID, id); err != nil || got.FullName != "New User" {
					t.Errorf("%s: read %v, %v", id, got, err)
				}
				c.OnReplica(t, byID, id)
			}
		}
	})

	t.Run("update and delete", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var got user
		if err := pgxscan.Get(ctx, db, &got, insert+" returning *", "kim"); err != nil {
			t.Fatal(err)
		}
		if err := pgxscan.Get(ctx, db, &got, "update users set age = 40 where user_id = $1 returning *", "kim"); err != nil || *got.Age != 40 {
			t.Errorf("update: %v, %v", got, err)
		}
		if err := pgxscan.Get(ctx, db, &got, byID, "kim"); err != nil || *got.Age != 40 {
			t.Errorf("after the update: %v, %v", got, err)
		}
		var gone []string
		if err := pgxscan.Select(ctx, db, &gone, "delete from users where user_id = $1 returning user_id", "kim"); err != nil || len(gone) != 1 {
			t.Errorf("delete: %v, %v", gone, err)
		}
		if err := pgxscan.Get(ctx, db, &got, byID, "kim"); !pgxscan.NotFound(err) {
			t.Errorf("after the delete: %v, %v, want no row", got, err)
		}
	})

	t.Run("transactions", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		undo := errors.New("undo")
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, "undone"); err != nil {
				return err
			}
			if err := pgxscan.Get(ctx, tx, new(user), byID, "undone"); err != nil {
				t.Errorf("in the transaction: %v, want its own write", err)
			}
			return undo
		})
		if err != undo {
			t.Fatal(err)
		}
		if err := pgxscan.Get(ctx, db, new(user), byID, "undone"); !pgxscan.NotFound(err) {
			t.Errorf("after the rollback: %v, want no row", err)
		}
	})

	t.Run("a read-only transaction with a prepared statement", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Prepare(ctx, "by_id", byID); err != nil {
			t.Fatal(err)
		}
		var bob user
		if err := pgxscan.Get(ctx, tx, &bob, "by_id", "bob"); err != nil || bob.FullName != "Bob Ray" {
			t.Errorf("read %v, %v", bob, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		paused.Refused(t, pgxscan.Get(ctx, tx, &bob, insert+" returning *", "nobody"), "25006")
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		paused.Refused(t, pgxscan.Get(ctx, db, new(user), insert+" returning *", "ann"), "23505")
		paused.Refused(t, pgxscan.Select(ctx, db, &[]user{}, "select * from users where 1/(age-30) > 0"), "22012")
		if err := pgxscan.Get(ctx, db, new(user), "select * from users"); err == nil {
			t.Error("Get of two rows gave no error")
		}
		if err := pgxscan.Get(ctx, db, new(user), "select 1 as nothing"); err == nil {
			t.Error("Get of a column that has no field gave no error")
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if err := pgxscan.Get(canceled, db, new(user), byID, "ann"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		for _, n := range db.Stat().Nodes {
			if n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
				t.Errorf("node %s: %d calls in flight, %d connections taken, want none", n.Name, n.InFlight, n.Pool.AcquiredConns())
			}
		}
	})
}
