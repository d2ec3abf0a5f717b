package pgtidehttp_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// cluster is a primary and a replica that applies nothing any more: whoever
// reads a row of this test there, reads stale.
var cluster = sync.OnceValues(func() (*lab.Cluster, error) {
	c, err := startCluster()
	if err == nil {
		err = c.Replicas()[0].PauseReplay(context.Background())
	}
	return c, err
})

// liveCluster is one whose replica follows.
var liveCluster = sync.OnceValues(startCluster)

var running struct {
	sync.Mutex
	clusters []*lab.Cluster
}

func startCluster() (*lab.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		return nil, err
	}
	running.Lock()
	running.clusters = append(running.clusters, c)
	running.Unlock()
	conn, err := pgx.Connect(ctx, c.Primary().DSN())
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "create table message (id text primary key)")
	return c, errors.Join(err, conn.Close(ctx), c.WaitCaughtUp(ctx))
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, c := range running.clusters {
		if err := c.Close(); err != nil {
			log.Printf("close the cluster: %v", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// instance is one running copy of the application: it shares the cluster and
// the keys with the others, and nothing else.
type instance struct {
	*httptest.Server
	db         *pgtide.DB
	middleware *pgtidehttp.Middleware
	mux        *http.ServeMux
}

// newInstance starts one. The handlers at /write/NAME insert the row that the
// query names; /read answers how many rows of that name it sees.
func newInstance(t *testing.T) *instance {
	t.Helper()
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{})
	mux := i.mux
	for _, w := range writers {
		mux.Handle("POST /write/"+w.name, i.handle(w.serve))
	}
	mux.Handle("GET /read", i.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		var n int
		if err := db.QueryRow(r.Context(), "select count(*) from message where id = $1", id(r)).Scan(&n); err != nil {
			return err
		}
		fmt.Fprint(w, n)
		return nil
	}))
	return i
}

// newApp starts an instance whose handlers are still to be put into its mux.
func newApp(t *testing.T, cluster func() (*lab.Cluster, error), o pgtide.Options, ho pgtidehttp.Options) *instance {
	t.Helper()
	c, err := cluster()
	if err != nil {
		t.Fatalf("start the cluster: %v", err)
	}
	primary, replica := c.Primary(), c.Replicas()[0]
	o.Nodes = []pgtide.Node{
		{Name: primary.Name(), DSN: primary.DSN()},
		{Name: replica.Name(), DSN: replica.DSN(), Groups: []string{"analytics"}},
	}
	o.MaxStaleness = -1 // a replica is to be avoided for what it lacks, not for its age
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(db.Close)
	if ho.Keys, err = pgtide.NewKeys([]byte("a secret for the tests of today")); err != nil {
		t.Fatal(err)
	}
	ho.Insecure = true
	i := &instance{db: db, middleware: pgtidehttp.New(db, ho), mux: http.NewServeMux()}
	i.Server = httptest.NewServer(i.middleware.Wrap(i.mux))
	t.Cleanup(i.Close)
	return i
}

func id(r *http.Request) string { return r.FormValue("id") }

func (i *instance) handle(serve func(*pgtide.DB, http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := serve(i.db, w, r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}

// newBrowser returns a client that keeps cookies and follows redirects.
func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 20 * time.Second}
}

var lastID atomic.Int64

func newID() string { return fmt.Sprintf("row-%d", lastID.Add(1)) }

// request returns the status and header of a response, and its body.
func request(t *testing.T, c *http.Client, method, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	body, err := readAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, url, err)
	}
	return res, body
}

// expectRow reads a row and says whether it must be there.
func expectRow(t *testing.T, c *http.Client, i *instance, row string, header http.Header, want string) {
	t.Helper()
	res, got := request(t, c, "GET", i.URL+"/read?id="+row, header)
	if res.StatusCode != http.StatusOK || got != want {
		t.Errorf("a read sees %q rows (status %d), want %s", got, res.StatusCode, want)
	}
	if token := res.Header.Get(pgtidehttp.DefaultHeader); token != "" || len(res.Cookies()) != 0 {
		t.Errorf("a read was sent token %q and cookies %v, want none", token, res.Cookies())
	}
}
