package pgtidetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/pgtide/pgtide/pgtidetest"
)

// naive is what many write: writes to one pool, reads from another.
type naive struct{ primary, replica *pgxpool.Pool }

func openNaive(t testing.TB, tide *pgtidetest.Tide) *naive {
	t.Helper()
	n := &naive{}
	for node, p := range map[string]**pgxpool.Pool{tide.Primary(): &n.primary, tide.Replicas()[0]: &n.replica} {
		pool, err := pgxpool.New(t.Context(), tide.DSN(node))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		*p = pool
	}
	return n
}

func (n *naive) add(ctx context.Context, id string) error {
	_, err := n.primary.Exec(ctx, "insert into message values ($1)", id) // naive add
	return err
}

func (n *naive) count(ctx context.Context, id string) (c int, err error) {
	err = n.replica.QueryRow(ctx, "select count(*) from message where id = $1", id).Scan(&c) // naive count
	return c, err
}

// wantAt fails the test unless a line on the finding's stack ends with the mark.
func wantAt(t *testing.T, f pgtidetest.Finding, mark string) {
	t.Helper()
	for _, place := range f.Stack {
		i := strings.LastIndexByte(place, ':')
		text, err := os.ReadFile(place[:i])
		must(t, err)
		line, err := strconv.Atoi(place[i+1:])
		must(t, err)
		if strings.HasSuffix(strings.Split(string(text), "\n")[line-1], mark) {
			return
		}
	}
	t.Errorf("the finding is at %s, want a line marked %q", f.Caller, mark)
}

// must fails the test unless err is nil.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func apply(t testing.TB, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql)
	must(t, err)
}

func query(t testing.TB, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, sql string, args ...any) {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	must(t, err)
	rows.Close()
	must(t, rows.Err())
}

func TestRunFindsNaiveReads(t *testing.T) {
	t.Parallel()
	body := func(t testing.TB, tide *pgtidetest.Tide) {
		n := openNaive(t, tide)
		if _, err := n.count(t.Context(), "a"); err != nil { // before any write: not stale
			t.Fatal(err)
		}
		if err := n.add(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.count(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	report := pgtidetest.Finder{}.Find(t, body)
	if len(report.Findings) != 1 {
		t.Fatalf("%d findings, want 1: %v\n%s", len(report.Findings), report.Findings, report.Trace)
	}
	f := report.Findings[0]
	wantAt(t, f, "// naive count")
	if f.Node != "node2" || !f.Differs || f.Count != 1 || !strings.HasPrefix(f.Write, "insert into message") {
		t.Errorf("finding %+v", f)
	}
	t.Log(f, "\n", report.Trace)
	wantFatal(t, func(tb testing.TB) { pgtidetest.Run(tb, body) }, "stale read from node2", "find_test.go:", "1 row, with other values than with fresh replicas")
}

func TestHandlerFindsNaiveReads(t *testing.T) {
	t.Parallel()
	open := func(t testing.TB, tide *pgtidetest.Tide) http.Handler {
		n := openNaive(t, tide)
		mux := http.NewServeMux()
		mux.HandleFunc("POST /message", func(w http.ResponseWriter, r *http.Request) {
			id, _ := io.ReadAll(r.Body)
			if err := n.add(r.Context(), string(id)); err != nil {
				http.Error(w, err.Error(), 500)
				return
			}
			http.Redirect(w, r, "/message/"+string(id), http.StatusSeeOther)
		})
		mux.HandleFunc("GET /message/{id}", func(w http.ResponseWriter, r *http.Request) {
			c, err := n.count(r.Context(), r.PathValue("id"))
			switch {
			case err != nil:
				http.Error(w, err.Error(), 500)
			case c == 0:
				http.NotFound(w, r)
			}
		})
		return mux
	}
	v := wantFatal(t, func(tb testing.TB) {
		pgtidetest.Handler(tb, open, httptest.NewRequest("POST", "/message", strings.NewReader("tea")))
	}, "stale read from node2 in POST /message", "find_test.go:", "answered 404 with frozen replicas, and 200 with fresh ones")
	t.Log(v.text.String())
}

func TestRunPassesPgtide(t *testing.T) {
	t.Parallel()
	v := suffer(t, func(tb testing.TB) {
		pgtidetest.Run(tb, func(t testing.TB, tide *pgtidetest.Tide) {
			for i := range 3 {
				id := fmt.Sprint(i)
				if _, err := tide.Exec(t.Context(), "insert into message values ($1)", id); err != nil {
					t.Fatal(err)
				}
				var n int
				if err := tide.QueryRow(t.Context(), "select count(*) from message where id = $1", id).Scan(&n); err != nil || n != 1 {
					t.Errorf("found %d, %v; want 1", n, err)
				}
			}
		})
	})
	if v.Failed() {
		t.Error(v.text.String())
	}
}

func TestRunSeesDatabaseSQL(t *testing.T) {
	t.Parallel()
	report := pgtidetest.Finder{}.Find(t, func(t testing.TB, tide *pgtidetest.Tide) {
		var dbs []*sql.DB
		for _, node := range []string{tide.Primary(), tide.Replicas()[1]} {
			db, err := sql.Open("pgx", tide.DSN(node))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			dbs = append(dbs, db)
		}
		tx, err := dbs[0].BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "insert into message values ('x'), ('y')"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		rows, err := dbs[1].QueryContext(t.Context(), "select id from message") // by database/sql
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
		}
	})
	if len(report.Findings) != 1 {
		t.Fatalf("%d findings, want 1: %v\n%s", len(report.Findings), report.Findings, report.Trace)
	}
	f := report.Findings[0]
	wantAt(t, f, "// by database/sql")
	if f.Frozen != "0 rows" || f.Fresh != "2 rows" || f.Node != "node3" {
		t.Errorf("finding %+v", f)
	}
}
