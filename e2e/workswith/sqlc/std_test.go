package sqlc

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/e2e/workswith/sqlc/stddb"
)

func TestDatabaseSQL(t *testing.T) {
	c := paused.New(t, schema+seeds)
	db := c.SQL(t)
	prepared, err := stddb.Prepare(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := prepared.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("New", func(t *testing.T) { databaseSQL(t, c, db, stddb.New(db), "new") })
	t.Run("Prepare", func(t *testing.T) { databaseSQL(t, c, db, prepared, "prepared") })
}

// databaseSQL is the program. prefix tells its two runs apart.
func databaseSQL(t *testing.T, c *paused.Cluster, db *sql.DB, q *stddb.Queries, prefix string) {
	inTx := func(ctx context.Context, o *sql.TxOptions, f func(*stddb.Queries) error) error {
		tx, err := db.BeginTx(ctx, o)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := f(q.WithTx(tx)); err != nil {
			return err
		}
		return tx.Commit()
	}

	t.Run("reads are served by replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		authors, err := q.ListAuthors(ctx)
		if err != nil || len(authors) != 2 || authors[0].Bio.String != "Earthsea" || authors[1].Bio.Valid {
			t.Fatalf("ListAuthors: %v, %v", authors, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		lem := authors[1]
		some, err := q.AuthorsByID(ctx, []int64{lem.ID, -1})
		if err != nil || len(some) != 1 || some[0] != lem {
			t.Errorf("AuthorsByID: %v, %v, want Lem alone", some, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		titles, err := q.ListBooks(ctx, lem.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "ListBooks", titles, []string{"Solaris"})
		paused.Served(t, ctx, pgtide.RoleReplica)
		if _, err := q.GetAuthor(ctx, -1); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("GetAuthor of nobody: %v, want sql.ErrNoRows", err)
		}
		if _, err := q.ListAuthors(pgtide.OnPrimary(ctx)); err != nil {
			t.Fatal(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if _, err := q.ListAuthors(ctx); err != nil {
			t.Fatal(err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if _, err := q.CountAuthorsOnPrimary(ctx); err != nil {
			t.Fatal(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("what is written is read", func(t *testing.T) {
		for way, write := range map[string]func(ctx context.Context, name string) (int64, error){
			"returning": func(ctx context.Context, name string) (int64, error) {
				a, err := q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: name})
				return a.ID, err
			},
			"common table expression": func(ctx context.Context, name string) (int64, error) {
				return q.CreateAuthorWithBook(ctx, stddb.CreateAuthorWithBookParams{Name: name, Title: "First"})
			},
			"transaction": func(ctx context.Context, name string) (id int64, err error) {
				err = inTx(ctx, nil, func(q *stddb.Queries) error {
					a, err := q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: name})
					id = a.ID
					return err
				})
				return id, err
			},
			"connection": func(ctx context.Context, name string) (int64, error) {
				conn, err := db.Conn(ctx)
				if err != nil {
					return 0, err
				}
				defer conn.Close()
				a, err := stddb.New(conn).CreateAuthor(ctx, stddb.CreateAuthorParams{Name: name})
				return a.ID, err
			},
		} {
			for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
				name := prefix + " " + way + ", " + where
				id, err := write(ctx, name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if a, err := q.GetAuthor(ctx, id); err != nil || a.Name != name {
					t.Errorf("%s: read %v, %v", name, a, err)
				}
				c.OnReplica(t, "select from author where id = $1", id)
			}
		}
	})

	t.Run("update and delete", func(t *testing.T) {
		for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
			a, err := q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: prefix + " Strugatsky, " + where})
			if err != nil {
				t.Fatal(err)
			}
			if err := q.UpdateBio(ctx, stddb.UpdateBioParams{ID: a.ID, Bio: sql.NullString{String: "two", Valid: true}}); err != nil {
				t.Fatal(err)
			}
			if a, err = q.GetAuthor(ctx, a.ID); err != nil || a.Bio.String != "two" {
				t.Errorf("%s: after UpdateBio: %v, %v", where, a, err)
			}
			if n, err := q.DeleteAuthor(ctx, a.ID); err != nil || n != 1 {
				t.Errorf("%s: DeleteAuthor: %d, %v", where, n, err)
			}
			if a, err := q.GetAuthor(ctx, a.ID); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s: after DeleteAuthor: %v, %v", where, a, err)
			}
		}
	})

	t.Run("transactions", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var id int64
		undo := errors.New("undo")
		err := inTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(q *stddb.Queries) error {
			a, err := q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: prefix + " Bulgakov"})
			if err != nil {
				return err
			}
			id = a.ID
			if locked, err := q.LockAuthor(ctx, id); err != nil || locked != a {
				t.Errorf("LockAuthor in the transaction: %v, %v, want its own write", locked, err)
			}
			if err := q.AddBook(ctx, stddb.AddBookParams{AuthorID: id, Title: "Morphine"}); err != nil {
				return err
			}
			if titles, err := q.ListBooks(ctx, id); err != nil || len(titles) != 1 {
				t.Errorf("ListBooks in the transaction: %v, %v, want its own write", titles, err)
			}
			return undo
		})
		if err != undo {
			t.Fatal(err)
		}
		if a, err := q.GetAuthor(ctx, id); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("after the rollback: %v, %v, want no row", a, err)
		}
	})

	t.Run("a read-only transaction is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		undo := errors.New("undo")
		err := inTx(ctx, &sql.TxOptions{ReadOnly: true}, func(q *stddb.Queries) error {
			authors, err := q.ListAuthors(ctx)
			if err != nil || len(authors) != 2 {
				t.Errorf("ListAuthors: %v, %v, want the seeded rows, as nothing was written in the session", authors, err)
			}
			paused.Served(t, ctx, pgtide.RoleReplica)
			_, err = q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: "nobody"})
			paused.Refused(t, err, "25006")
			return undo
		})
		if err != undo {
			t.Error(err)
		}
	})

	t.Run("a locking read", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		lem, err := q.GetAuthorByName(ctx, "Lem")
		if err != nil {
			t.Fatal(err)
		}
		if locked, err := q.LockAuthor(ctx, lem.ID); err != nil || locked != lem {
			t.Errorf("LockAuthor: %v, %v, want %v", locked, err, lem)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
	})

	t.Run("errors", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		_, err := q.CreateAuthor(ctx, stddb.CreateAuthorParams{Name: "Lem"})
		paused.Refused(t, err, "23505")
		paused.Refused(t, q.AddBook(ctx, stddb.AddBookParams{AuthorID: -1, Title: "Nothing"}), "23503")
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := q.ListAuthors(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
