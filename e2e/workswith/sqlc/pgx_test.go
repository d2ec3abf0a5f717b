package sqlc

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/e2e/workswith/sqlc/pgxdb"
)

var (
	_ pgxdb.DBTX = (*pgtide.DB)(nil)
	_ pgxdb.DBTX = (*pgtide.Conn)(nil)
)

func TestPgx(t *testing.T) {
	c := paused.New(t, schema+seeds)
	q := pgxdb.New(c.DB)

	t.Run("reads are served by replicas", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		authors, err := q.ListAuthors(ctx)
		if err != nil || len(authors) != 2 || authors[0].Bio.String != "Earthsea" || authors[1].Bio.Valid {
			t.Fatalf("ListAuthors: %v, %v", authors, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		lem, err := q.GetAuthorByName(ctx, "Lem")
		if err != nil || lem.Name != "Lem" {
			t.Fatalf("GetAuthorByName: %v, %v", lem, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		some, err := q.AuthorsByID(ctx, []int64{lem.ID, -1})
		if err != nil || len(some) != 1 || some[0] != lem {
			t.Errorf("AuthorsByID: %v, %v, want Lem alone", some, err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		var titles []string
		q.BooksOf(ctx, []int64{-1, lem.ID}).Query(func(_ int, some []string, err error) {
			if err != nil {
				t.Error(err)
			}
			titles = append(titles, some...)
		})
		equal(t, "BooksOf", titles, []string{"Solaris"})
		paused.Served(t, ctx, pgtide.RoleReplica)
		if _, err := q.GetAuthor(ctx, -1); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("GetAuthor of nobody: %v, want pgx.ErrNoRows", err)
		}
	})

	t.Run("the context has its say", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
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
		create := func(ctx context.Context, name string) (int64, error) {
			a, err := q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: name})
			return a.ID, err
		}
		for way, write := range map[string]func(ctx context.Context, name string) (int64, error){
			"returning": create,
			"common table expression": func(ctx context.Context, name string) (int64, error) {
				return q.CreateAuthorWithBook(ctx, pgxdb.CreateAuthorWithBookParams{Name: name, Title: "First"})
			},
			"batchone": func(ctx context.Context, name string) (id int64, err error) {
				q.InsertAuthors(ctx, []string{name}).QueryRow(func(_ int, i int64, e error) { id, err = i, e })
				return id, err
			},
			"transaction": func(ctx context.Context, name string) (id int64, err error) {
				err = pgx.BeginFunc(ctx, c.DB, func(tx pgx.Tx) error {
					a, err := q.WithTx(tx).CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: name})
					id = a.ID
					return err
				})
				return id, err
			},
			"connection": func(ctx context.Context, name string) (int64, error) {
				conn, err := c.DB.Acquire(ctx)
				if err != nil {
					return 0, err
				}
				defer conn.Release()
				a, err := pgxdb.New(conn).CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: name})
				return a.ID, err
			},
		} {
			for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
				name := way + ", " + where
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
			a, err := q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: "Strugatsky, " + where})
			if err != nil {
				t.Fatal(err)
			}
			if err := q.UpdateBio(ctx, pgxdb.UpdateBioParams{ID: a.ID, Bio: pgtype.Text{String: "two", Valid: true}}); err != nil {
				t.Fatal(err)
			}
			if a, err = q.GetAuthor(ctx, a.ID); err != nil || a.Bio.String != "two" {
				t.Errorf("%s: after UpdateBio: %v, %v", where, a, err)
			}
			if n, err := q.DeleteAuthor(ctx, a.ID); err != nil || n != 1 {
				t.Errorf("%s: DeleteAuthor: %d, %v", where, n, err)
			}
			if a, err := q.GetAuthor(ctx, a.ID); !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("%s: after DeleteAuthor: %v, %v", where, a, err)
			}
		}
	})

	t.Run("many rows", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		a, err := q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: "Dick"})
		if err != nil {
			t.Fatal(err)
		}
		n, err := q.CopyBooks(ctx, []pgxdb.CopyBooksParams{{AuthorID: a.ID, Title: "Ubik"}, {AuthorID: a.ID, Title: "Valis"}})
		if err != nil || n != 2 {
			t.Fatalf("CopyBooks: %d, %v", n, err)
		}
		titles, err := q.ListBooks(ctx, a.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "after :copyfrom", titles, []string{"Ubik", "Valis"})
		q.RetitleBooks(ctx, []pgxdb.RetitleBooksParams{
			{AuthorID: a.ID, OldTitle: "Ubik", NewTitle: "UBIK"}, {AuthorID: a.ID, OldTitle: "Valis", NewTitle: "VALIS"},
		}).Exec(func(i int, err error) {
			if err != nil {
				t.Errorf("RetitleBooks, %d: %v", i, err)
			}
		})
		if titles, err = q.ListBooks(ctx, a.ID); err != nil {
			t.Fatal(err)
		}
		equal(t, "after :batchexec", titles, []string{"UBIK", "VALIS"})
		c.OnReplica(t, "select from book where author_id = $1", a.ID)
	})

	t.Run("transactions", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		var id int64
		undo := errors.New("undo")
		err := pgx.BeginFunc(ctx, c.DB, func(tx pgx.Tx) error {
			q := q.WithTx(tx)
			a, err := q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: "Bulgakov"})
			if err != nil {
				return err
			}
			id = a.ID
			if locked, err := q.LockAuthor(ctx, id); err != nil || locked != a {
				t.Errorf("LockAuthor in the transaction: %v, %v, want its own write", locked, err)
			}
			if n, err := q.CopyBooks(ctx, []pgxdb.CopyBooksParams{{AuthorID: id, Title: "Morphine"}}); err != nil || n != 1 {
				t.Errorf("CopyBooks: %d, %v", n, err)
			}
			if titles, err := q.ListBooks(ctx, id); err != nil || len(titles) != 1 {
				t.Errorf("ListBooks in the transaction: %v, %v, want its own write", titles, err)
			}
			return undo
		})
		if err != undo {
			t.Fatal(err)
		}
		if a, err := q.GetAuthor(ctx, id); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("after the rollback: %v, %v, want no row", a, err)
		}
	})

	t.Run("a read-only transaction is served by a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		err := pgx.BeginTxFunc(ctx, c.DB, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			q := q.WithTx(tx)
			authors, err := q.ListAuthors(ctx)
			if err != nil || len(authors) != 2 {
				t.Errorf("ListAuthors: %v, %v, want the seeded rows, as nothing was written in the session", authors, err)
			}
			paused.Served(t, ctx, pgtide.RoleReplica)
			_, err = q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: "nobody"})
			paused.Refused(t, err, "25006")
			return nil
		})
		if !errors.Is(err, pgx.ErrTxCommitRollback) {
			t.Errorf("commit after the failed write: %v, want pgx.ErrTxCommitRollback", err)
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
		_, err := q.CreateAuthor(ctx, pgxdb.CreateAuthorParams{Name: "Lem"})
		paused.Refused(t, err, "23505")
		var errs []error
		q.InsertAuthors(ctx, []string{"Zamyatin", "Lem"}).QueryRow(func(_ int, _ int64, err error) { errs = append(errs, err) })
		if len(errs) != 2 || errs[0] != nil {
			t.Fatalf("batch: %v, want a row and an error", errs)
		}
		paused.Refused(t, errs[1], "23505")
		if a, err := q.GetAuthorByName(ctx, "Zamyatin"); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("a batch that failed left %v, %v", a, err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := q.ListAuthors(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
