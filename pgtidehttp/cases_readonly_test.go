package pgtidehttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// counted marks a context whose queries are counted.
type counted struct{}

// queries counts those made in a marked context.
type queries struct{ n atomic.Int64 }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(counted{}) != nil {
		q.n.Add(1)
	}
	return ctx
}

func (q *queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// readOnlySite serves pages that say whether the service is read-only, and one
// that writes, below ReadOnlyMode.
func readOnlySite(t *testing.T, db *pgtide.DB, q *queries) *httptest.Server {
	t.Helper()
	keys, err := pgtide.NewKeys([]byte("a secret for the tests of today"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /unused", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /used", func(w http.ResponseWriter, r *http.Request) {
		if pgtidehttp.Writable(r.Context()) {
			w.Header().Set("X-Writable", "yes")
		}
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) { tellWhere(db, w, r, http.StatusOK) })
	h := pgtidehttp.New(db, pgtidehttp.Options{Keys: keys, Insecure: true}).Wrap(pgtidehttp.ReadOnlyMode(db, mux))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), counted{}, q)))
	}))
	t.Cleanup(s.Close)
	return s
}

// saysWritable reports what the site says of itself.
func saysWritable(t *testing.T, s *httptest.Server) bool {
	t.Helper()
	res, _ := request(t, &http.Client{}, "GET", s.URL+"/used", nil)
	return res.Header.Get("X-Writable") != ""
}

// isReadOnly fails the test unless writers are told to come back, while reads
// are served.
func isReadOnly(t *testing.T, s *httptest.Server) {
	t.Helper()
	res, _ := request(t, &http.Client{}, "POST", s.URL+"/page?write=yes&id="+newID(), nil)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a POST is answered %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	ask(t, &http.Client{}, "GET", s.URL+"/page", nil).expect(t, onReplica, "0")
}

func TestCasesOfReadOnlyService(t *testing.T) {
	c := getPair(t)
	var q queries
	db := openPair(t, c, pgtide.Options{Configure: func(_ string, config *pgxpool.Config) error {
		config.ConnConfig.Tracer = &q
		return nil
	}}, c.Primary().Name(), c.Replicas()[0].Name())
	site := readOnlySite(t, db, &q)
	// Upstream makes two checks for each request that uses the flag, each of
	// which may hang: there are no time limits. Here what probes have found is
	// there to be looked at.
	t.Run("T23 asking whether writes are accepted asks no server", func(t *testing.T) {
		// A new connection asks where it leads to: let there be one.
		request(t, &http.Client{}, "GET", site.URL+"/page", nil)
		q.n.Store(0)
		request(t, &http.Client{}, "GET", site.URL+"/unused", nil)
		if !saysWritable(t, site) {
			t.Error("the service says that it is read-only")
		}
		if n := q.n.Load(); n != 0 {
			t.Errorf("%d queries were made, want none", n)
		}
		request(t, &http.Client{}, "GET", site.URL+"/page", nil)
		if n := q.n.Load(); n != 1 {
			t.Errorf("a page that reads once makes %d queries, want 1", n)
		}
	})
	// Upstream only reports it; what then writes fails as it may.
	t.Run("T24 the primary is not alive", func(t *testing.T) {
		primary := c.Primary()
		if err := primary.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		mended(t, c, primary)
		comes(t, "the service is read-only", func() bool { return !saysWritable(t, site) })
		isReadOnly(t, site)
		if err := primary.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Upstream keeps it read-only until REPLICATED_READ_ONLY_DOWNTIME is over.
		comes(t, "the service accepts writes", func() bool { return saysWritable(t, site) })
		if s := ask(t, newBrowser(t), "POST", site.URL+"/page?write=yes&id="+newID(), nil); s.count != "1" {
			t.Errorf("a POST sees %q of its rows, want 1", s.count)
		}
	})
}

// As upstream, which asks for pg_is_in_recovery: a server can be in good health
// and accept no writes.
func TestCaseOfDemotedPrimary(t *testing.T) {
	c, err := startPair() // of its own: it will have another primary
	if err != nil {
		t.Fatal(err)
	}
	old, replicas := c.Primary(), c.Replicas()
	db := openPair(t, c, pgtide.Options{}, old.Name(), replicas[1].Name())
	site := readOnlySite(t, db, &queries{})
	t.Run("T25 the primary accepts no writes", func(t *testing.T) {
		if err := old.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Promote(t.Context(), replicas[0].Name()); err != nil { // which db does not know
			t.Fatal(err)
		}
		if err := old.Rejoin(t.Context()); err != nil {
			t.Fatal(err)
		}
		comes(t, "both nodes are up, as replicas", func() bool {
			for _, n := range db.Nodes() {
				if n.State != "up" || n.Role != onReplica {
					return false
				}
			}
			return true
		})
		if saysWritable(t, site) {
			t.Error("the service says that it accepts writes")
		}
		isReadOnly(t, site)
	})
}
