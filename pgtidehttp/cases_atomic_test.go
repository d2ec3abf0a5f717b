package pgtidehttp_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// Upstream tells Django's ATOMIC_REQUESTS on which databases a view is not to
// have a transaction: on all but the one in use. Here a request has one
// transaction, on one node, and only if its handler asks for it.

// working is a page that works in the request's transaction and tells what it is
// like. A POST inserts the row that the query names.
type working struct{ t *testing.T }

func (a *working) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, h := r.Context(), w.Header()
	h.Set("Location", "/")
	tx, err := pgtidehttp.Tx(ctx)
	if err != nil {
		if !errors.Is(err, pgtidehttp.ErrNoTransaction) {
			a.t.Error(err)
		}
		h.Set("X-Transaction", "none")
		w.WriteHeader(http.StatusFound)
		return
	}
	if r.Method == "POST" {
		if _, err := tx.Exec(ctx, "insert into message (id) values ($1)", id(r)); err != nil {
			a.t.Error(err)
		}
	}
	var readOnly string
	var standby bool
	var n int
	err = tx.QueryRow(ctx, "select current_setting('transaction_read_only'), pg_is_in_recovery(), (select count(*) from message where id = $1)", id(r)).Scan(&readOnly, &standby, &n)
	if err != nil {
		a.t.Error(err)
	}
	h.Set("X-Transaction", fmt.Sprintf("read-only %s, standby %v, %d rows", readOnly, standby, n))
	w.WriteHeader(http.StatusFound)
}

func (a *working) method(w http.ResponseWriter, r *http.Request) { a.ServeHTTP(w, r) }

const (
	readingOnReplica = "read-only on, standby true, 0 rows"
	readingOwnWrite  = "read-only on, standby false, 1 rows"
	writingOnPrimary = "read-only off, standby false, 1 rows"
	noTransaction    = "none"
)

// transacts fails the test unless the request's transaction is like this.
func transacts(t *testing.T, c *http.Client, method, url, want string) {
	t.Helper()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, _ := request(t, c, method, url, nil)
	if got := res.Header.Get("X-Transaction"); res.StatusCode != http.StatusFound || got != want {
		t.Errorf("%s: status %d, transaction %q, want %q", method, res.StatusCode, got, want)
	}
}

func TestCasesOfTransactions(t *testing.T) {
	t.Run("T26 no transactions unless they are asked for", func(t *testing.T) {
		i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{})
		i.mux.Handle("/", &working{t})
		transacts(t, newBrowser(t), "GET", i.URL+"/", noTransaction)
		transacts(t, newBrowser(t), "POST", i.URL+"/", noTransaction)
		if s := i.middleware.Stat(); s.Committed+s.RolledBack+s.CommitErrors != 0 {
			t.Errorf("transactions were counted: %+v", s)
		}
	})
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{Transactions: true})
	object := &working{t}
	for pattern, h := range map[string]http.Handler{
		"/{$}":               http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { object.ServeHTTP(w, r) }),
		"/with_name":         pgtidehttp.Use(pgtide.ReadYourWrites, object),
		"/as_callable":       object,
		"/as_instancemethod": http.HandlerFunc(object.method),
		"/non_atomic":        pgtidehttp.NonAtomic(object),
		"/atomic_again":      pgtidehttp.NonAtomic(pgtidehttp.Atomic(object)),
	} {
		i.mux.Handle(pattern, h)
	}
	t.Run("T27 a handler that opts out", func(t *testing.T) {
		for _, method := range []string{"GET", "POST"} {
			transacts(t, newBrowser(t), method, i.URL+"/non_atomic?id="+newID(), noTransaction)
		}
		transacts(t, newBrowser(t), "POST", i.URL+"/atomic_again?id="+newID(), writingOnPrimary)
	})
	// Upstream opens no transaction at all for the first GET: without one its
	// reads may come from moments apart. Here one on the replica costs the primary
	// nothing. The last GET is on the master there for the cookie's sake, and
	// may write; here it is there for what it must see, and may not.
	for _, tt := range []struct{ name, path string }{
		{"T28 a transaction for a function", "/"},
		{"T29 a transaction for a wrapped handler", "/with_name"},
		{"T30 a transaction for a handler object", "/as_callable"},
		{"T31 a transaction for a method", "/as_instancemethod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			browser, before := newBrowser(t), i.middleware.Stat().Committed
			url := i.URL + tt.path + "?id=" + newID()
			transacts(t, browser, "GET", url, readingOnReplica)
			transacts(t, browser, "POST", url, writingOnPrimary)
			transacts(t, browser, "GET", url, readingOwnWrite)
			if n := i.middleware.Stat().Committed - before; n != 3 {
				t.Errorf("%d transactions were committed, want one for each request", n)
			}
		})
	}
}

// Upstream keeps what it decides for a request in an attribute of the view, which
// all threads share: a GET can take a POST's transaction away.
func TestCaseOfTransactionsAtOnce(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{Transactions: true})
	meet := make(chan struct{})
	page := &working{t}
	i.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" { // neither begins before both are here
			meet <- struct{}{}
		} else {
			<-meet
		}
		page.ServeHTTP(w, r)
	})
	t.Run("X19 GET and POST on one handler at once", func(t *testing.T) {
		for range 10 {
			var wg sync.WaitGroup
			for _, tt := range []struct{ method, want string }{{"GET", readingOnReplica}, {"POST", writingOnPrimary}} {
				browser, url := newBrowser(t), i.URL+"/?id="+newID()
				browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				wg.Go(func() {
					r, err := http.NewRequestWithContext(t.Context(), tt.method, url, nil)
					if err != nil {
						t.Error(err)
						return
					}
					res, err := browser.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					if got := res.Header.Get("X-Transaction"); got != tt.want {
						t.Errorf("%s: transaction %q, want %q", tt.method, got, tt.want)
					}
				})
			}
			wg.Wait()
		}
	})
}
