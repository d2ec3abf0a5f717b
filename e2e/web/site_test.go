package web_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidehttp"
)

const schema = "create table note (id bigint generated always as identity primary key, text text not null)"

// options are those of every instance, under every router.
func options(keys *pgtide.Keys) pgtidehttp.Options {
	return pgtidehttp.Options{
		Keys:             keys,
		Insecure:         true,
		Transactions:     true,
		WritersOnPrimary: true,
		Routes: []pgtidehttp.Route{
			{Pattern: "GET /ledger", Use: "primary"},
			{Pattern: "/admin/*", Use: "primary"},
			{Pattern: "POST /search", Use: "replica"},
			{Pattern: "/users/{name}", Use: "strong"},
		},
	}
}

// instance is one copy of the application: a DB of its own, the keys of all.
type instance struct {
	*httptest.Server
	db *pgtide.DB
	// proceed lets a page that has sent the half of its body go on.
	proceed chan struct{}
	// copied counts the calls of ReadFrom that reach the server.
	copied *reads
}

func newInstance(t *testing.T, r router, db *pgtide.DB, keys *pgtide.Keys) *instance {
	t.Helper()
	i := &instance{db: db, proceed: make(chan struct{}), copied: &reads{}}
	h := r.make(db, options(keys), i.pages(t))
	if r.copies {
		h = i.copied.count(h)
	}
	i.Server = httptest.NewUnstartedServer(h)
	if i.EnableHTTP2 = r.http2; r.http2 {
		i.StartTLS()
	} else {
		i.Start()
	}
	t.Cleanup(i.Close)
	return i
}

// pages are the site, for any router.
func (i *instance) pages(t *testing.T) []page {
	explain := http.HandlerFunc(i.explain)
	return append([]page{
		{method: "GET", path: "/note", serve: http.HandlerFunc(i.read)},
		{method: "POST", path: "/note", serve: http.HandlerFunc(i.post)},
		{method: "POST", path: "/api/note", serve: http.HandlerFunc(i.create)},
		{method: "POST", path: "/panic", serve: http.HandlerFunc(i.panics)},
		{method: "GET", path: "/page", serve: explain},
		{method: "POST", path: "/page", serve: explain},
		{method: "GET", path: "/ledger", serve: explain},
		{method: "GET", path: "/admin/users/list", serve: explain},
		{method: "POST", path: "/search", serve: explain},
		{method: "GET", path: "/users/ann", serve: explain},
		{method: "GET", path: "/report", serve: explain},
		{method: "GET", path: "/wrapped", serve: pgtidehttp.UsePrimary(explain)},
		{method: "GET", path: "/eventual", serve: pgtidehttp.Use(pgtide.Eventual, explain)},
		{method: "POST", path: "/tx", do: i.transact},
		{method: "POST", path: "/tx/error", do: func(r *http.Request) error {
			return errors.Join(i.transact(r), errors.New("a page that fails after it has written"))
		}},
	}, i.streams(t)...)
}

func (i *instance) insert(w http.ResponseWriter, r *http.Request, text string) (id int64, ok bool) {
	err := i.db.QueryRow(r.Context(), "insert into note (text) values ($1) returning id", text).Scan(&id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	return id, err == nil
}

// post is a form's.
func (i *instance) post(w http.ResponseWriter, r *http.Request) {
	if id, ok := i.insert(w, r, r.FormValue("text")); ok {
		http.Redirect(w, r, fmt.Sprint("/note?id=", id), http.StatusSeeOther)
	}
}

// create is an API's.
func (i *instance) create(w http.ResponseWriter, r *http.Request) {
	var text string
	if err := json.NewDecoder(r.Body).Decode(&text); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if id, ok := i.insert(w, r, text); ok {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintln(w, id)
	}
}

func (i *instance) panics(w http.ResponseWriter, r *http.Request) {
	if id, ok := i.insert(w, r, "before the panic"); ok {
		w.Header().Set("X-Id", fmt.Sprint(id))
		panic("a page that goes wrong")
	}
}

// transact writes in the request's transaction.
func (i *instance) transact(r *http.Request) error {
	tx, err := pgtidehttp.Tx(r.Context())
	if err != nil {
		return err
	}
	_, err = tx.Exec(r.Context(), "insert into note (text) values ($1)", r.FormValue("text"))
	return err
}

func (i *instance) read(w http.ResponseWriter, r *http.Request) {
	var text string
	err := i.db.QueryRow(r.Context(), "select text from note where id = $1", r.FormValue("id")).Scan(&text)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		http.Error(w, "no such note", http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_, _ = io.WriteString(w, text)
	}
}

// explain reads, and answers with where it did.
func (i *instance) explain(w http.ResponseWriter, r *http.Request) {
	var n int
	if err := i.db.QueryRow(r.Context(), "select count(*) from note").Scan(&n); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	decisions := pgtide.Explain(r.Context())
	_ = json.NewEncoder(w).Encode(decisions[len(decisions)-1])
}

// twoInstances share a cluster and keys, and neither knows what the other did.
func twoInstances(t *testing.T, c *paused.Cluster, r router) (a, b *instance) {
	t.Helper()
	keys, err := pgtide.NewKeys([]byte("a key for the tests of the web, 32"))
	if err != nil {
		t.Fatal(err)
	}
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	other, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return newInstance(t, r, c.DB, keys), newInstance(t, r, other, keys)
}

// transport believes the certificates of tests.
var transport = &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}

// newClient does not follow redirects, and keeps cookies if it is a browser's.
func newClient(browser bool) *http.Client {
	c := &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if browser {
		c.Jar, _ = cookiejar.New(nil) // never an error
	}
	return c
}

func do(t *testing.T, c *http.Client, method, url, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, url, err)
	}
	return res, string(text)
}

// shows fails the test unless c reads this note on i; with an empty text, unless
// c is shown none.
func shows(t *testing.T, c *http.Client, i *instance, path, text string, header http.Header) {
	t.Helper()
	res, got := do(t, c, "GET", i.URL+path, "", header)
	want := http.StatusOK
	if text == "" {
		want, text = http.StatusNotFound, "no such note\n"
	}
	if res.StatusCode != want || got != text {
		t.Errorf("GET %s: %d %q, want %d %q", path, res.StatusCode, got, want, text)
	}
}
