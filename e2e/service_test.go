package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// appServer is one process of a web service, as far as HTTP can tell: a DB and
// a middleware of its own, and keys that it shares with the others.
func appServer(t *testing.T, c *lab.Cluster, keys *pgtide.Keys) *httptest.Server {
	t.Helper()
	var o pgtide.Options
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /note", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var id int64
		if err := db.QueryRow(r.Context(), "insert into note (text) values ($1) returning id", string(text)).Scan(&id); err != nil {
			status := http.StatusServiceUnavailable
			if pgtide.OutcomeUnknown(err) {
				status = http.StatusAccepted
			}
			http.Error(w, err.Error(), status)
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/note/%d", id), http.StatusSeeOther)
	})
	mux.HandleFunc("GET /note/{id}", func(w http.ResponseWriter, r *http.Request) {
		var text string
		err := db.QueryRow(r.Context(), "select text from note where id = $1", r.PathValue("id")).Scan(&text)
		if lost := pgtide.Lost(r.Context()); lost != nil {
			w.Header().Set("X-Lost", "yes")
		}
		if d := pgtide.Explain(r.Context()); len(d) > 0 {
			w.Header().Set("X-Role", string(d[len(d)-1].Role))
			w.Header().Set("X-Reason", d[len(d)-1].Node+" "+string(d[len(d)-1].Reason))
		}
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			json.NewEncoder(w).Encode(text)
		}
	})
	s := httptest.NewServer(pgtidehttp.New(db, pgtidehttp.Options{Keys: keys, Insecure: true}).Wrap(mux))
	t.Cleanup(s.Close)
	return s
}

// TestNotesThroughAFailover is the whole way through: browsers that post to one
// application server and read from another, over a cluster whose replicas are
// late and whose primary dies.
func TestNotesThroughAFailover(t *testing.T) {
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	setup(t, c)
	late := c.Replicas()[2]
	if err := late.SetApplyDelay(t.Context(), 2*time.Second); err != nil {
		t.Fatal(err)
	}
	keys, err := pgtide.NewKeys([]byte("an end to end test key, 32 bytes"))
	if err != nil {
		t.Fatal(err)
	}
	servers := []*httptest.Server{appServer(t, c, keys), appServer(t, c, keys)}

	var stop atomic.Bool
	var posts, fromReplicas, lost, unknown atomic.Int64
	var group sync.WaitGroup
	var elsewhere sync.Mutex // guards reasons
	reasons := map[string]int{}
	for i := range 12 {
		group.Go(func() {
			jar, _ := cookiejar.New(nil)
			browser := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			for n := 0; !stop.Load(); n++ {
				text := fmt.Sprintf("%d-%d", i, n)
				response, err := browser.Post(servers[n%2].URL+"/note", "text/plain", strings.NewReader(text))
				if err != nil {
					t.Errorf("post: %v", err)
					return
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if response.StatusCode == http.StatusAccepted {
					unknown.Add(1)
					continue
				}
				if response.StatusCode != http.StatusSeeOther {
					t.Errorf("post: status %d: %s", response.StatusCode, body)
					return
				}
				posts.Add(1)
				// The redirect is followed on the other server; the two share a
				// host, and so the browser's cookie.
				response, err = browser.Get(servers[(n+1)%2].URL + response.Header.Get("Location"))
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				body, _ = io.ReadAll(response.Body)
				response.Body.Close()
				switch {
				case response.Header.Get("X-Lost") != "":
					lost.Add(1)
				case response.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != `"`+text+`"`:
					t.Errorf("the note that was just posted: status %d: %s", response.StatusCode, body)
				case response.Header.Get("X-Role") == string(pgtide.RoleReplica):
					fromReplicas.Add(1)
				default:
					elsewhere.Lock()
					reasons[response.Header.Get("X-Reason")]++
					elsewhere.Unlock()
				}
			}
		})
	}
	waitFor(t, "posts before the failover", func() bool { return posts.Load() > 300 })
	old := c.Primary()
	if err := old.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Promote(t.Context(), c.Replicas()[0].Name()); err != nil {
		t.Error(err)
	}
	after := posts.Load()
	waitFor(t, "posts after the failover", func() bool { return posts.Load() > after+300 })
	if err := old.Rejoin(t.Context()); err != nil {
		t.Error(err)
	}
	after = posts.Load()
	waitFor(t, "posts after the old primary's return", func() bool { return posts.Load() > after+300 })
	stop.Store(true)
	group.Wait()
	t.Logf("%d posts, %d read from replicas, %d of unknown outcome, %d told to be lost", posts.Load(), fromReplicas.Load(), unknown.Load(), lost.Load())
	if share := float64(fromReplicas.Load()) / float64(posts.Load()); share < 0.15 {
		// Reads stay at the primary until the replica that is left has followed it, and
		// is known to be quick again: a second, of a test that lasts little longer.
		t.Errorf("replicas served %.0f %% of the reads, want more; the others went to %v", 100*share, reasons)
	}
}

func setup(t *testing.T, c *lab.Cluster) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "create table note (id bigint generated always as identity primary key, text text not null)"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// waitFor polls for what real clients do, which send no signal.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if t.Failed() || time.Now().After(deadline) {
			t.Errorf("still waiting for %s", what)
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}
