package pgtidehttp

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// fakeTx notes how it ended.
type fakeTx struct {
	pgx.Tx
	mode      pgx.TxAccessMode
	ended     []string
	commitErr error
}

func (f *fakeTx) end(how string) error {
	if f.ended = append(f.ended, how); len(f.ended) > 1 {
		return pgx.ErrTxClosed
	}
	return nil
}

func (f *fakeTx) Commit(context.Context) error {
	return errors.Join(f.end("commit"), f.commitErr)
}
func (f *fakeTx) Rollback(context.Context) error { return f.end("rollback") }

// inTransaction serves one request with Transactions on, and returns what began.
func inTransaction(t *testing.T, r *http.Request, commitErr error, h http.HandlerFunc) (*Middleware, *http.Response, []*fakeTx) {
	t.Helper()
	var begun []*fakeTx
	var told []error
	m := newTest(t, Options{Transactions: true, OnCommitError: func(_ *http.Request, err error) { told = append(told, err) }})
	m.db.(*fakeDB).begin = func(o pgx.TxOptions) (pgx.Tx, error) {
		begun = append(begun, &fakeTx{mode: o.AccessMode, commitErr: commitErr})
		return begun[len(begun)-1], nil
	}
	res := serve(m, r, h)
	if (commitErr != nil) != (len(told) == 1 && errors.Is(told[0], ErrNotCommitted) && errors.Is(told[0], commitErr)) {
		t.Errorf("OnCommitError was told %v, want what is wrong with the commit: %v", told, commitErr)
	}
	return m, res, begun
}

func mustTx(t *testing.T, r *http.Request) pgx.Tx {
	t.Helper()
	tx, err := Tx(r.Context())
	if err != nil {
		t.Errorf("Tx: %v", err)
	}
	return tx
}

func post() *http.Request { return httptest.NewRequest(http.MethodPost, "/", nil) }

func TestTransactionEnds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request *http.Request
		handler http.HandlerFunc
		mode    pgx.TxAccessMode
		end     string
	}{
		{"GET", get(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); w.Write([]byte("x")) }, pgx.ReadOnly, "commit"},
		{"POST", post(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); w.WriteHeader(201) }, pgx.ReadWrite, "commit"},
		{"silent", post(), func(_ http.ResponseWriter, r *http.Request) { mustTx(t, r) }, pgx.ReadWrite, "commit"},
		{"redirect", post(), func(w http.ResponseWriter, r *http.Request) {
			mustTx(t, r)
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}, pgx.ReadWrite, "commit"},
		{"404", post(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); http.NotFound(w, r) }, pgx.ReadWrite, "commit"},
		{"500", post(), func(w http.ResponseWriter, r *http.Request) {
			mustTx(t, r)
			http.Error(w, "no", http.StatusInternalServerError)
		}, pgx.ReadWrite, "rollback"},
		{"503", get(), func(w http.ResponseWriter, r *http.Request) {
			mustTx(t, r)
			http.Error(w, "no", http.StatusServiceUnavailable)
		}, pgx.ReadOnly, "rollback"},
		{"interim", post(), func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			mustTx(t, r)
			w.WriteHeader(500)
		}, pgx.ReadWrite, "rollback"},
		{"flush", post(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); w.(http.Flusher).Flush() }, pgx.ReadWrite, "commit"},
		{"twice", post(), func(w http.ResponseWriter, r *http.Request) {
			if mustTx(t, r) != mustTx(t, r) {
				t.Error("two calls of Tx return two transactions")
			}
		}, pgx.ReadWrite, "commit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _, begun := inTransaction(t, tt.request, nil, tt.handler)
			if len(begun) != 1 || begun[0].mode != tt.mode || !slices.Equal(begun[0].ended, []string{tt.end}) {
				t.Fatalf("transactions %+v, want one that is %s and ends with %s", begun, tt.mode, tt.end)
			}
			want := Stat{Committed: 1}
			if tt.end == "rollback" {
				want = Stat{RolledBack: 1}
			}
			if got := *m.Stat(); got != want {
				t.Errorf("counters are %+v, want %+v", got, want)
			}
		})
	}
}

func TestTransactionIsLazy(t *testing.T) {
	_, _, begun := inTransaction(t, post(), nil, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("x")) })
	if len(begun) != 0 {
		t.Errorf("%d transactions began, want none: nobody asked", len(begun))
	}
}

func TestTransactionPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the panic was swallowed")
		}
	}()
	var tx *fakeTx
	m := newTest(t, Options{Transactions: true})
	m.db.(*fakeDB).begin = func(pgx.TxOptions) (pgx.Tx, error) { tx = &fakeTx{}; return tx, nil }
	defer func() {
		if !slices.Equal(tx.ended, []string{"rollback"}) {
			t.Errorf("the transaction ended with %q, want a rollback", tx.ended)
		}
	}()
	serve(m, post(), func(_ http.ResponseWriter, r *http.Request) { mustTx(t, r); panic("no") })
}

// A handler that says it is done, and is not, must not be believed.
func TestCommitFails(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter) error // nil is no write that could tell
	}{
		{"status", func(w http.ResponseWriter) error { w.WriteHeader(201); return nil }},
		{"body", func(w http.ResponseWriter) error { _, err := w.Write([]byte("done")); return err }},
		{"copy", func(w http.ResponseWriter) error {
			_, err := w.(*response).ReadFrom(strings.NewReader(strings.Repeat("x", 5000)))
			return err
		}},
		{"flush", func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }},
		{"hijack", func(w http.ResponseWriter) error { _, _, err := http.NewResponseController(w).Hijack(); return err }},
		{"silence", func(http.ResponseWriter) error { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, res, begun := inTransaction(t, post(), broken, func(w http.ResponseWriter, r *http.Request) {
				mustTx(t, r)
				write(r.Context(), newToken(t, home, 100))
				w.Header().Set("Location", "/done")
				w.Header().Set("Content-Length", "4")
				if err := tt.answer(w); err != nil && !errors.Is(err, ErrNotCommitted) && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("the handler is told %v, want ErrNotCommitted, or what the recorder cannot do", err)
				}
				w.WriteHeader(200)
				if _, err := w.Write([]byte("done")); tt.name != "silence" && !errors.Is(err, ErrNotCommitted) {
					t.Errorf("a later write returns %v, want ErrNotCommitted", err)
				}
			})
			if body := read(t, res); res.StatusCode != 500 || body != "Internal Server Error\n" || res.Header.Get("Location") != "" {
				t.Errorf("the response is %d %q %v, want a plain 500", res.StatusCode, body, res.Header)
			}
			if _, ok := sent(t, m, res.Header); !ok {
				t.Error("the response carries no token: what may have been written must be seen")
			}
			if got, want := *m.Stat(), (Stat{Sent: 1, CommitErrors: 1}); got != want || len(begun) != 1 {
				t.Errorf("counters are %+v, want %+v", got, want)
			}
		})
	}
}

// What is not committed is not in a cache, and nobody is logged in by it.
func TestCommitFailsWithHeaders(t *testing.T) {
	m := newTest(t, Options{Transactions: true})
	m.db.(*fakeDB).begin = func(o pgx.TxOptions) (pgx.Tx, error) { return &fakeTx{commitErr: errors.New("broken")}, nil }
	w := httptest.NewRecorder()
	http.SetCookie(w, &http.Cookie{Name: "outer", Value: "1"})
	m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mustTx(t, r)
		write(r.Context(), newToken(t, home, 100))
		http.SetCookie(w, &http.Cookie{Name: "login", Value: "1"})
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
		w.WriteHeader(http.StatusCreated)
	})).ServeHTTP(w, post())
	var names []string
	for _, c := range w.Result().Cookies() {
		names = append(names, c.Name)
	}
	if len(names) != 2 || names[0] != "outer" || !m.owns(names[1]) {
		t.Errorf("the 500 sets cookies %q, want the one further out and the token's", names)
	}
	if h := w.Result().Header; h.Get("Cache-Control") != "no-store" || h.Get("Expires") != "" {
		t.Errorf("the 500 has Cache-Control %q and Expires %q, want no-store and none", h.Get("Cache-Control"), h.Get("Expires"))
	}
}

// What the writer behind cannot do sends no header, and so ends no transaction: a
// handler below an http.TimeoutHandler may flush, and fail later.
func TestUnsupportedEndsNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(http.ResponseWriter)
	}{
		{"flush", func(w http.ResponseWriter) { w.(http.Flusher).Flush() }},
		{"hijack", func(w http.ResponseWriter) { _, _, _ = w.(http.Hijacker).Hijack() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, tx := newTest(t, Options{Transactions: true}), &fakeTx{}
			m.db.(*fakeDB).begin = func(pgx.TxOptions) (pgx.Tx, error) { return tx, nil }
			h := m.Wrap(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mustTx(t, r)
				tt.call(w)
				mustTx(t, r)
				http.Error(w, "no", http.StatusInternalServerError)
			})))
			w := httptest.NewRecorder()
			http.TimeoutHandler(h, time.Minute, "").ServeHTTP(w, post())
			if w.Code != http.StatusInternalServerError || !slices.Equal(tx.ended, []string{"rollback"}) {
				t.Errorf("the response is %d and the transaction's end %q, want 500 and a rollback", w.Code, tx.ended)
			}
		})
	}
}

func TestHandlerEndsTransaction(t *testing.T) {
	m, res, begun := inTransaction(t, post(), nil, func(w http.ResponseWriter, r *http.Request) {
		if err := mustTx(t, r).Rollback(r.Context()); err != nil {
			t.Errorf("rollback: %v", err)
		}
		w.WriteHeader(http.StatusConflict)
	})
	if res.StatusCode != http.StatusConflict || begun[0].ended[0] != "rollback" {
		t.Errorf("the response is %d and the transaction ended with %q, want 409 and the handler's rollback", res.StatusCode, begun[0].ended)
	}
	if got := *m.Stat(); got != (Stat{}) {
		t.Errorf("counters are %+v, want zeros", got)
	}
}

func TestNoTransaction(t *testing.T) {
	expect := func(t *testing.T, ctx context.Context, want string) {
		t.Helper()
		if _, err := Tx(ctx); !errors.Is(err, ErrNoTransaction) || !strings.Contains(err.Error(), want) {
			t.Errorf("Tx returns %v, want ErrNoTransaction that says %q", err, want)
		}
	}
	expect(t, t.Context(), "Middleware.Wrap")
	off := newTest(t, Options{})
	serve(off, get(), func(_ http.ResponseWriter, r *http.Request) { expect(t, r.Context(), "NonAtomic") })
	inTransaction(t, get(), nil, func(w http.ResponseWriter, r *http.Request) {
		NonAtomic(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { expect(t, r.Context(), "NonAtomic") })).ServeHTTP(w, r)
		w.WriteHeader(200)
		expect(t, r.Context(), "has begun")
	})
	inTransaction(t, get(), nil, func(w http.ResponseWriter, r *http.Request) {
		mustTx(t, r)
		UsePrimary(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { expect(t, r.Context(), "only reads") })).ServeHTTP(w, r)
	})
	on := off
	on.db.(*fakeDB).begin = func(pgx.TxOptions) (pgx.Tx, error) { return &fakeTx{}, nil }
	on.Wrap(Atomic(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mustTx(t, r) }))).ServeHTTP(httptest.NewRecorder(), get())
}

// One of another DB does not.
func TestTransactionsOfTwoDBs(t *testing.T) {
	outer, inner := newTest(t, Options{Transactions: true}), newTest(t, Options{Transactions: true})
	begun := map[*Middleware]int{}
	for _, m := range []*Middleware{outer, inner} {
		m.db.(*fakeDB).begin = func(pgx.TxOptions) (pgx.Tx, error) { begun[m]++; return &fakeTx{}, nil }
	}
	h := inner.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mustTx(t, r) }))
	serve(outer, post(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); h.ServeHTTP(w, r) })
	if begun[outer] != 1 || begun[inner] != 1 || outer.Stat().Committed != 1 || inner.Stat().Committed != 1 {
		t.Errorf("%d and %d transactions began, want one on each DB, committed", begun[outer], begun[inner])
	}
}

// A Wrap inside another has the request's transaction, not one of its own.
func TestNestedTransaction(t *testing.T) {
	m := newTest(t, Options{Transactions: true})
	begun := 0
	m.db.(*fakeDB).begin = func(pgx.TxOptions) (pgx.Tx, error) { begun++; return &fakeTx{}, nil }
	inner := m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mustTx(t, r) }))
	serve(m, post(), func(w http.ResponseWriter, r *http.Request) { mustTx(t, r); inner.ServeHTTP(w, r) })
	if got := m.Stat().Committed; begun != 1 || got != 1 {
		t.Errorf("%d transactions began and %d were committed, want one", begun, got)
	}
}
