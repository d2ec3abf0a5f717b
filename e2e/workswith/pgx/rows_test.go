package pgx

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

func TestRows(t *testing.T) {
	c := paused.New(t, schema)
	db := c.DB
	t.Cleanup(func() { idle(t, db) })

	t.Run("collecting", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		rows, _ := db.Query(ctx, "select * from message order by id")
		all, err := pgx.CollectRows(rows, pgx.RowToStructByName[message])
		if err != nil || len(all) != 2 || all[1].Text != "world" || all[1].Likes != 2 {
			t.Errorf("RowToStructByName: %v, %v", all, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		rows, _ = db.Query(ctx, byText, "hello")
		one, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[message])
		if err != nil || one.Likes != 1 {
			t.Errorf("CollectExactlyOneRow: %v, %v", one, err)
		}
		rows, _ = db.Query(ctx, byText, "nothing")
		if _, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[message]); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("CollectOneRow: %v, want pgx.ErrNoRows", err)
		}
		rows, _ = db.Query(ctx, "select * from message")
		if _, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap); !errors.Is(err, pgx.ErrTooManyRows) {
			t.Errorf("CollectExactlyOneRow of two: %v, want pgx.ErrTooManyRows", err)
		}
		rows, _ = db.Query(ctx, "select id, text from message order by id limit 1")
		if m, err := pgx.CollectOneRow(rows, pgx.RowToMap); err != nil || m["text"] != "hello" {
			t.Errorf("RowToMap: %v, %v", m, err)
		}
		rows, _ = db.Query(ctx, "select text from message order by id")
		texts, err := pgx.AppendRows([]string{"first"}, rows, pgx.RowTo[string])
		if err != nil || len(texts) != 3 || texts[2] != "world" {
			t.Errorf("AppendRows: %v, %v", texts, err)
		}
		rows, _ = db.Query(ctx, "select id from message")
		if _, err := pgx.CollectRows(rows, pgx.RowToStructByName[message]); err == nil {
			t.Error("a row that lacks columns of the struct gave no error")
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
	})

	t.Run("ForEachRow", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var text string
		var likes, sum int
		add := func() error { sum += likes; return nil }
		rows, _ := db.Query(ctx, "select text, likes from message")
		tag, err := pgx.ForEachRow(rows, []any{&text, &likes}, add)
		if err != nil || sum != 3 || tag.RowsAffected() != 2 {
			t.Errorf("sum %d, %v, %v", sum, tag, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		enough := errors.New("enough")
		rows, _ = db.Query(ctx, "select text, likes from message")
		if _, err := pgx.ForEachRow(rows, []any{&text, &likes}, func() error { return enough }); err != enough {
			t.Errorf("error %v, want that of the function", err)
		}
	})

	t.Run("named arguments", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		for name, args := range map[string]any{
			"NamedArgs":       pgx.NamedArgs{"text": "world", "more": 1},
			"StrictNamedArgs": pgx.StrictNamedArgs{"text": "world"},
			"StructArgs": pgx.StructArgs(struct {
				Text string `db:"text"`
			}{"world"}),
		} {
			var likes int
			if err := db.QueryRow(ctx, "select likes from message where text = @text", args).Scan(&likes); err != nil || likes != 2 {
				t.Errorf("%s: %d, %v", name, likes, err)
			}
			paused.Served(t, ctx, pgtide.RoleReplica)
		}
		if _, err := db.Exec(ctx, "select @text::text", pgx.StrictNamedArgs{"test": "misspelt"}); err == nil {
			t.Error("StrictNamedArgs without the argument gave no error")
		}
	})

	t.Run("a large result is streamed", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		const n = 200_000
		rows, _ := db.Query(ctx, "select i, repeat('x', 100) from generate_series(1, $1) i", n)
		var i, sum int
		var text string
		if _, err := pgx.ForEachRow(rows, []any{&i, &text}, func() error { sum += i + len(text); return nil }); err != nil {
			t.Fatal(err)
		}
		if want := n*(n+1)/2 + 100*n; sum != want {
			t.Errorf("sum %d, want %d", sum, want)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		rows, err := db.Query(ctx, "select i from generate_series(1, $1) i", n)
		if err != nil || !rows.Next() {
			t.Fatalf("no first row: %v, %v", err, rows.Err())
		}
		rows.Close() // in the midst of it
		if rows.Err() != nil {
			t.Errorf("after Close: %v", rows.Err())
		}
		rows, _ = db.Query(ctx, "select 1000 / (100000 - i) from generate_series(1, $1) i", n)
		seen := 0
		_, err = pgx.ForEachRow(rows, []any{&i}, func() error { seen++; return nil })
		paused.Refused(t, err, "22012")
		if seen != 99_999 {
			t.Errorf("%d rows before the error, want 99999", seen)
		}
		reading, cancel := context.WithCancel(ctx)
		rows, _ = db.Query(reading, "select i from generate_series(1, $1) i", 100*n)
		_, err = pgx.ForEachRow(rows, []any{&i}, func() error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while reading: %v", err)
		}
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		rows, _ := db.Query(ctx, "select nothing from message")
		_, err := pgx.CollectRows(rows, pgx.RowToMap)
		paused.Refused(t, err, "42703")
		rows, _ = db.Query(ctx, insert+" returning id", "hello")
		_, err = pgx.CollectOneRow(rows, pgx.RowTo[int64])
		paused.Refused(t, err, "23505")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		rows, _ = db.Query(canceled, "select 1")
		if _, err := pgx.CollectRows(rows, pgx.RowTo[int]); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
