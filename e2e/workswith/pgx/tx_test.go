package pgx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

func TestTransactions(t *testing.T) {
	c := paused.New(t, schema)
	db := c.DB
	t.Cleanup(func() { idle(t, db) })
	readOnly := pgx.TxOptions{AccessMode: pgx.ReadOnly}

	t.Run("rolled back", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		undo := errors.New("undo")
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, "undone"); err != nil {
				return err
			}
			rows, _ := tx.Query(ctx, byText+" for update", "undone")
			if _, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message]); err != nil {
				t.Errorf("in the transaction: %v, want its own write", err)
			}
			return undo
		})
		if err != undo {
			t.Fatal(err)
		}
		rows, _ := db.Query(ctx, byText, "undone")
		if found, err := pgx.CollectRows(rows, pgx.RowToMap); err != nil || len(found) != 0 {
			t.Errorf("after the rollback: %v, %v", found, err)
		}
	})

	t.Run("a panic rolls back", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		func() {
			defer func() {
				if recover() != "oops" {
					t.Error("the panic did not come through")
				}
			}()
			_ = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, insert, "panicked"); err != nil {
					t.Error(err)
				}
				panic("oops")
			})
		}()
		if err := db.QueryRow(ctx, "select id from message where text = 'panicked'").Scan(new(int64)); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("after the panic: %v, want no row", err)
		}
	})

	t.Run("savepoints", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, "outer"); err != nil {
				return err
			}
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, insert, "outer")
				return err
			})
			paused.Refused(t, err, "23505")
			inner, err := tx.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := inner.Exec(ctx, insert, "inner"); err != nil {
				return err
			}
			var n int
			if err := inner.QueryRow(ctx, "select count(*) from message where text in ('outer', 'inner')").Scan(&n); err != nil || n != 2 {
				t.Errorf("in the savepoint: %d rows, %v, want 2", n, err)
			}
			return inner.Commit(ctx)
		})
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := db.Query(ctx, "select text from message where text in ('outer', 'inner') order by id desc")
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(texts) != 2 || texts[0] != "inner" {
			t.Errorf("read %v, %v", texts, err)
		}
		c.OnReplica(t, "select from message where text = any ($1)", texts)
	})

	t.Run("read-only", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		err := pgx.BeginTxFunc(ctx, db, readOnly, func(tx pgx.Tx) error {
			if _, err := tx.Prepare(ctx, "by_text", byText); err != nil {
				return err
			}
			rows, _ := tx.Query(ctx, "by_text", "world")
			if m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message]); err != nil || m.Likes != 2 {
				t.Errorf("a statement prepared in the transaction: %v, %v", m, err)
			}
			var standby bool
			if err := tx.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil || !standby {
				t.Errorf("on a standby: %v, %v", standby, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		err = pgx.BeginTxFunc(ctx, db, readOnly, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, insert, "refused")
			return err
		})
		paused.Refused(t, err, "25006")
		if _, err := db.Exec(ctx, insert, "written"); err != nil {
			t.Fatal(err)
		}
		err = pgx.BeginTxFunc(ctx, db, readOnly, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "select id from message where text = 'written'").Scan(new(int64))
		})
		if err != nil {
			t.Errorf("a read-only transaction after a write: %v", err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("large objects", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		read := func(oid uint32) (all []byte, err error) {
			err = pgx.BeginTxFunc(ctx, db, readOnly, func(tx pgx.Tx) error {
				objects := tx.LargeObjects()
				object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead)
				if err != nil {
					return err
				}
				all, err = io.ReadAll(object)
				return err
			})
			return all, err
		}
		if all, err := read(4711); err != nil || string(all) != "a large object" {
			t.Errorf("the seeded one: %q, %v", all, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		content := bytes.Repeat([]byte("0123456789"), 10_000)
		var oid uint32
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			objects := tx.LargeObjects()
			if oid, err = objects.Create(ctx, 0); err != nil {
				return err
			}
			object, err := objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
			if err != nil {
				return err
			}
			if _, err := object.Write(content); err != nil {
				return err
			}
			if _, err := object.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if all, err := io.ReadAll(object); err != nil || !bytes.Equal(all, content) {
				t.Errorf("in the transaction: %d bytes, %v, want %d", len(all), err, len(content))
			}
			return object.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		if all, err := read(oid); err != nil || !bytes.Equal(all, content) {
			t.Errorf("after the transaction: %d bytes, %v, want %d", len(all), err, len(content))
		}
		c.OnReplica(t, "select from pg_largeobject_metadata where oid = $1", oid)
	})

	t.Run("rows and a batch in one", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			n, err := tx.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows([][]any{{"copied"}}))
			if err != nil || n != 1 {
				return errors.Join(err, errors.New("want one row"))
			}
			b := &pgx.Batch{}
			b.Queue("update message set likes = 9 where text = 'copied'")
			var likes int
			b.Queue("select likes from message where text = 'copied'").QueryRow(func(row pgx.Row) error { return row.Scan(&likes) })
			if err := tx.SendBatch(ctx, b).Close(); err != nil || likes != 9 {
				t.Errorf("in the transaction: %d likes, %v, want 9", likes, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(ctx, "select id from message where likes = 9").Scan(new(int64)); err != nil {
			t.Error(err)
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(pgtide.NewSession(t.Context()))
		err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, "cancelled"); err != nil {
				return err
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("commit: %v, want context.Canceled", err)
		}
	})
}
