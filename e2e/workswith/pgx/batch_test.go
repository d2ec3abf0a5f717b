package pgx

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

func TestBatches(t *testing.T) {
	c := paused.New(t, schema)
	db := c.DB
	t.Cleanup(func() { idle(t, db) })

	t.Run("of reads is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var one message
		var texts []string
		var tag int64
		b := &pgx.Batch{}
		b.Queue(byText, "world").Query(func(rows pgx.Rows) (err error) {
			one, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message])
			return err
		})
		b.Queue("select text from message where likes = any (@likes) order by id", pgx.NamedArgs{"likes": []int{1, 2}}).Query(func(rows pgx.Rows) (err error) {
			texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		b.Queue("select generate_series(1, 3)").Query(func(rows pgx.Rows) error {
			ct, err := pgx.ForEachRow(rows, []any{new(int)}, func() error { return nil })
			tag = ct.RowsAffected()
			return err
		})
		if err := db.SendBatch(ctx, b).Close(); err != nil {
			t.Fatal(err)
		}
		if one.Likes != 2 || fmt.Sprint(texts) != "[hello world]" || tag != 3 {
			t.Errorf("read %v, %v, %d rows", one, texts, tag)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
	})

	t.Run("with a write goes to the primary", func(t *testing.T) {
		for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
			var id int64
			n := 0
			b := &pgx.Batch{}
			b.Queue(insert+" returning id", where).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
			b.Queue("select 1 from message where text = $1 for update", where).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
			if err := db.SendBatch(ctx, b).Close(); err != nil || id == 0 || n != 1 {
				t.Fatalf("%s: id %d, %d rows, %v", where, id, n, err)
			}
			if err := db.QueryRow(ctx, "select text from message where id = $1", id).Scan(new(string)); err != nil {
				t.Errorf("%s: the read: %v", where, err)
			}
			c.OnReplica(t, "select from message where id = $1", id)
		}
	})

	t.Run("result by result", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		b := &pgx.Batch{}
		for i := range 100 {
			b.Queue(insert, fmt.Sprint("of many, ", i))
		}
		b.Queue("select count(*) from message where text like 'of many%'")
		results := db.SendBatch(ctx, b)
		for i := range 100 {
			if tag, err := results.Exec(); err != nil || tag.RowsAffected() != 1 {
				t.Fatalf("insert %d: %v, %v", i, tag, err)
			}
		}
		var n int
		if err := results.QueryRow().Scan(&n); err != nil || n != 100 {
			t.Errorf("%d rows, %v, want 100", n, err)
		}
		if err := results.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(ctx, "select count(*) from message where text like 'of many%'").Scan(&n); err != nil || n != 100 {
			t.Errorf("after the batch: %d rows, %v, want 100", n, err)
		}
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		b := &pgx.Batch{}
		b.Queue(insert, "not alone")
		b.Queue(insert, "hello")
		paused.Refused(t, db.SendBatch(ctx, b).Close(), "23505")
		if err := db.QueryRow(ctx, "select id from message where text = 'not alone'").Scan(new(int64)); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("a batch that failed left a row: %v", err)
		}
		b = &pgx.Batch{}
		b.Queue("select nothing")
		paused.Refused(t, db.SendBatch(ctx, b).Close(), "42703")
		mine := errors.New("mine")
		b = &pgx.Batch{}
		b.Queue("select 1").QueryRow(func(pgx.Row) error { return mine })
		if err := db.SendBatch(ctx, b).Close(); !errors.Is(err, mine) {
			t.Errorf("error %v, want that of the function", err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if err := db.SendBatch(canceled, b).Close(); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if err := db.SendBatch(ctx, &pgx.Batch{}).Close(); err != nil {
			t.Errorf("an empty batch: %v", err)
		}
	})

	t.Run("CopyFrom", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		table, columns := pgx.Identifier{"message"}, []string{"text", "likes"}
		list := []message{{Text: "a", Likes: 50}, {Text: "b", Likes: 50}}
		n, err := db.CopyFrom(ctx, table, columns, pgx.CopyFromSlice(len(list), func(i int) ([]any, error) {
			return []any{list[i].Text, list[i].Likes}, nil
		}))
		if err != nil || n != 2 {
			t.Fatalf("CopyFromSlice: %d, %v", n, err)
		}
		left := 1000
		n, err = db.CopyFrom(ctx, table, columns, pgx.CopyFromFunc(func() ([]any, error) {
			if left--; left < 0 {
				return nil, nil
			}
			return []any{fmt.Sprint("row ", left), 50}, nil
		}))
		if err != nil || n != 1000 {
			t.Fatalf("CopyFromFunc: %d, %v", n, err)
		}
		var found int
		if err := db.QueryRow(ctx, "select count(*) from message where likes = 50").Scan(&found); err != nil || found != 1002 {
			t.Errorf("read %d, %v, want 1002", found, err)
		}
		c.OnReplica(t, "select from message where likes = 50")
		_, err = db.CopyFrom(ctx, table, columns, pgx.CopyFromRows([][]any{{"c", 51}, {"a", 51}}))
		paused.Refused(t, err, "23505")
		_, err = db.CopyFrom(ctx, table, columns, pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("broken") }))
		paused.Refused(t, err, "57014") // the server's answer to an error of the source
		if err := db.QueryRow(ctx, "select count(*) from message where likes = 51").Scan(&found); err != nil || found != 0 {
			t.Errorf("copies that failed left %d rows, %v", found, err)
		}
	})
}
