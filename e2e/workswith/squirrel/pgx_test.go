package squirrel

import (
	"context"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// TestPgx has squirrel build statements that a pgtide.DB runs.
func TestPgx(t *testing.T) {
	c := paused.New(t, schema)
	type item struct {
		ID    int64
		Name  string
		Price int
	}
	read := func(ctx context.Context, b sq.SelectBuilder) ([]item, error) {
		query, args, err := b.ToSql()
		if err != nil {
			return nil, err
		}
		rows, _ := c.DB.Query(ctx, query, args...)
		return pgx.CollectRows(rows, pgx.RowToStructByName[item])
	}
	items := psql.Select("id", "name", "price").From("item").OrderBy("id")

	t.Run("a read is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		got, err := read(ctx, items.Where(sq.GtOrEq{"price": 3}).Where(sq.Or{sq.Eq{"name": "apple"}, sq.ILike{"name": "P%"}}))
		if err != nil || len(got) != 2 || got[1] != (item{ID: 2, Name: "pear", Price: 5}) {
			t.Errorf("read %v, %v", got, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if _, err := read(ctx, items.Prefix("/* pgtide: primary */")); err != nil {
			t.Error(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if _, err := read(ctx, items.Suffix("for share")); err != nil {
			t.Errorf("a locking read: %v", err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("what is written is read", func(t *testing.T) {
		for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
			query, args := psql.Insert("item").Columns("name").Values(where).Values(where + " too").Suffix("returning id").MustSql()
			rows, _ := c.DB.Query(ctx, query, args...)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil || len(ids) != 2 {
				t.Fatalf("%s: insert: %v, %v", where, ids, err)
			}
			if got, err := read(ctx, items.Where(sq.Eq{"id": ids})); err != nil || len(got) != 2 || got[0].Name != where {
				t.Errorf("%s: read %v, %v", where, got, err)
			}
			c.OnReplica(t, "select from item where id = any ($1)", ids)
		}
	})

	t.Run("a batch", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		b := &pgx.Batch{}
		for _, name := range []string{"fig", "kiwi"} {
			query, args := psql.Insert("item").Columns("name").Values(name).MustSql()
			b.Queue(query, args...)
		}
		if err := c.DB.SendBatch(ctx, b).Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := read(ctx, items.Where(sq.Eq{"name": []string{"fig", "kiwi"}})); err != nil || len(got) != 2 {
			t.Errorf("read %v, %v", got, err)
		}
	})
}
