package pgtidehttp_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// The tests in files named cases_ hold pgtide against django_replicated 2.7, case
// by case. T1 to T36 stand for the 36 tests of its suite, X1 to X20 for what that
// suite leaves out. Each asserts what pgtide does; where that is not what upstream
// does, the comment says what upstream does and why pgtide does not.

// Every case has one test, so that none is lost when tests are moved about.
func TestEveryCaseIsThere(t *testing.T) {
	files, err := filepath.Glob("cases_*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the files with the cases: %q, %v", files, err)
	}
	number := regexp.MustCompile(`^[TX][0-9]+ `)
	found := map[string]int{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				if m := number.FindString(text); m != "" {
					found[m[:len(m)-1]]++
				}
			}
			return true
		})
	}
	want := 0
	for prefix, n := range map[string]int{"T": 36, "X": 20} {
		want += n
		for i := 1; i <= n; i++ {
			if name := fmt.Sprint(prefix, i); found[name] != 1 {
				t.Errorf("case %s has %d tests, want 1", name, found[name])
			}
		}
	}
	if len(found) != want {
		t.Errorf("there are %d numbers, want %d: %v", len(found), want, found)
	}
}

// pair is a cluster with two replicas that follow.
var pair = sync.OnceValues(func() (*lab.Cluster, error) { return startPair() })

func startPair() (*lab.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{Replicas: 2})
	if err != nil {
		return nil, err
	}
	running.Lock()
	running.clusters = append(running.clusters, c)
	running.Unlock()
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: c.DSN()})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, `create table message (id text primary key);
		create table link (a text references message, b text references message)`); err != nil {
		return nil, err
	}
	return c, c.WaitCaughtUp(ctx)
}

// openPair returns a DB on all nodes of the pair that are named, or on all.
func openPair(t *testing.T, c *lab.Cluster, o pgtide.Options, names ...string) *pgtide.DB {
	t.Helper()
	for _, n := range c.Nodes() {
		wanted := len(names) == 0
		for _, name := range names {
			wanted = wanted || name == n.Name()
		}
		if wanted {
			o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
		}
	}
	o.ProbeInterval = 50 * time.Millisecond
	if o.MaxStaleness == 0 {
		o.MaxStaleness = -1 // what is cut off serves until it is needed to be fresh
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}

func getPair(t *testing.T) *lab.Cluster {
	t.Helper()
	c, err := pair()
	if err != nil {
		t.Fatalf("start the pair: %v", err)
	}
	return c
}

// mended starts nodes that a test has stopped, when it is over.
func mended(t *testing.T, c *lab.Cluster, nodes ...*lab.Node) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, n := range nodes {
			if err := n.Start(ctx); err != nil {
				t.Errorf("start %s again: %v", n.Name(), err)
			}
		}
		if err := c.WaitCaughtUp(ctx); err != nil {
			t.Error(err)
		}
	})
}

// comes waits for what probes find out by and by, which send no signal.
func comes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// nodeOf returns what db knows of a node.
func nodeOf(t *testing.T, db *pgtide.DB, name string) pgtide.NodeStatus {
	t.Helper()
	for _, n := range db.Nodes() {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("there is no node %q in %v", name, db.Nodes())
	return pgtide.NodeStatus{}
}

// countOf counts the rows of this name.
func countOf(ctx context.Context, db *pgtide.DB, row string) (n int, err error) {
	err = db.QueryRow(ctx, "select count(*) from message where id = $1", row).Scan(&n)
	return n, err
}

// last is the last decision in the session of ctx.
func last(t *testing.T, ctx context.Context) pgtide.Decision {
	t.Helper()
	decisions := pgtide.Explain(ctx)
	if len(decisions) == 0 {
		t.Fatal("no decision was made")
	}
	return decisions[len(decisions)-1]
}

// where is upstream's test view: it reads, tells in headers where, and redirects.
// The row in the query is written first where the query says so.
func where(i *instance) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tellWhere(i.db, w, r, http.StatusFound) })
}

func tellWhere(db *pgtide.DB, w http.ResponseWriter, r *http.Request, status int) {
	if r.FormValue("write") != "" {
		if _, err := db.Exec(r.Context(), "insert into message (id) values ($1)", id(r)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	n, err := countOf(r.Context(), db, id(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	decisions := pgtide.Explain(r.Context())
	d := decisions[len(decisions)-1]
	h := w.Header()
	h.Set("X-Role", string(d.Role))
	h.Set("X-Note", d.Note)
	h.Set("X-Count", strconv.Itoa(n))
	h.Set("Location", "/")
	w.WriteHeader(status)
}

// seen is what a client gets to see of where.
type seen struct {
	status            int
	role, note, count string
	token             string
	cookies           []*http.Cookie
}

// ask asks for a page as a client that does not follow redirects.
func ask(t *testing.T, c *http.Client, method, url string, header http.Header) seen {
	t.Helper()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, body := request(t, c, method, url, header)
	if res.StatusCode >= 500 {
		t.Errorf("%s %s: %d %s", method, url, res.StatusCode, body)
	}
	h := res.Header
	return seen{res.StatusCode, h.Get("X-Role"), h.Get("X-Note"), h.Get("X-Count"), h.Get(pgtidehttp.DefaultHeader), res.Cookies()}
}

// expect fails the test unless the page was read from a node of this role and
// saw this many rows.
func (s seen) expect(t *testing.T, role pgtide.Role, count string) {
	t.Helper()
	if s.role != string(role) || s.count != count {
		t.Errorf("read from a %s (%s), which shows %s rows; want a %s and %s", s.role, s.note, s.count, role, count)
	}
}

// carriesNothing fails the test if the response brought a token.
func (s seen) carriesNothing(t *testing.T) {
	t.Helper()
	if s.token != "" || len(s.cookies) > 0 {
		t.Errorf("the response brings token %q and cookies %v, want none", s.token, s.cookies)
	}
}
