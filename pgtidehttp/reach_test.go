package pgtidehttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// What every replica has is not asked for any more.
func TestCookieLivesAsLongAsNeeded(t *testing.T) {
	i := newApp(t, liveCluster, pgtide.Options{}, pgtidehttp.Options{})
	i.mux.Handle("POST /write", i.handle(writers[0].serve))
	i.mux.Handle("GET /page", i.handle(explain))
	browser := newBrowser(t)
	request(t, browser, "POST", i.URL+"/write?id="+newID(), nil)
	home, err := url.Parse(i.URL)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(browser.Jar.Cookies(home)); n != 1 {
		t.Fatalf("after the write the browser keeps %d cookies, want 1", n)
	}
	// The replica has it in milliseconds; the DB knows at the next probe.
	for deadline := time.Now().Add(10 * time.Second); len(browser.Jar.Cookies(home)) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the browser still keeps the cookie after 10s, want it taken back")
		}
		decided(t, browser, "GET", i.URL+"/page", nil)
	}
	if d := decided(t, browser, "GET", i.URL+"/page", nil); d.Role != pgtide.RoleReplica {
		t.Errorf("without the cookie the read went to the %s, %s; want the replica", d.Role, d.Reason)
	}
}

// Two devices of one user keep no cookies.
func TestStoreOfUsers(t *testing.T) {
	store := &pgtidehttp.MemoryStore{}
	user := http.Header{"User": {"ann"}}
	options := pgtidehttp.Options{Store: store, StoreKey: func(r *http.Request) string { return r.Header.Get("User") }}
	a, b := newReader(t, options), newReader(t, options)
	row := newID()
	request(t, &http.Client{}, "POST", a.URL+"/write?id="+row, user)
	if _, body := request(t, &http.Client{}, "GET", b.URL+"/read?id="+row, user); body != "1" {
		t.Errorf("the user's other device sees %s rows, want 1", body)
	}
	if _, body := request(t, &http.Client{}, "GET", b.URL+"/read?id="+row, nil); body != "0" {
		t.Errorf("a stranger sees %s rows, want 0: nothing asks for them", body)
	}
}

type downStore struct{}

func (downStore) Load(context.Context, string) (pgtide.Token, error) {
	return pgtide.Token{}, errors.New("down")
}

func (downStore) Raise(context.Context, string, pgtide.Token, time.Duration) error {
	return errors.New("down")
}

// A store that is down costs a look at the primary, no error and no stale read.
func TestStoreIsDown(t *testing.T) {
	user := http.Header{"User": {"ann"}}
	options := pgtidehttp.Options{Store: downStore{}, StoreKey: func(r *http.Request) string { return r.Header.Get("User") }}
	a, b := newReader(t, options), newReader(t, options)
	row := newID()
	if res, body := request(t, &http.Client{}, "POST", a.URL+"/write?id="+row, user); res.StatusCode != http.StatusCreated {
		t.Errorf("the write is answered %d %q, want 201", res.StatusCode, body)
	}
	if _, body := request(t, &http.Client{}, "GET", b.URL+"/read?id="+row, user); body != "1" {
		t.Errorf("the user's other device sees %s rows, want 1", body)
	}
	if got := a.middleware.Stat().StoreErrors; got != 2 {
		t.Errorf("%d errors are counted, want a load and a raise", got)
	}
}

// newReader starts an instance with /write and /read.
func newReader(t *testing.T, o pgtidehttp.Options) *instance {
	t.Helper()
	i := newApp(t, cluster, pgtide.Options{}, o)
	i.mux.Handle("POST /write", i.handle(writers[0].serve))
	i.mux.Handle("GET /read", i.handle(count))
	return i
}

func count(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
	var n int
	if err := db.QueryRow(r.Context(), "select count(*) from message where id = $1", id(r)).Scan(&n); err != nil {
		return err
	}
	fmt.Fprint(w, n)
	return nil
}

// A service has another write for it, and its own reads see it; then it asks the
// other to read what it has written itself.
func TestServiceToService(t *testing.T) {
	back := newReader(t, pgtidehttp.Options{})
	front := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{})
	keys, err := pgtide.NewKeys([]byte("a secret for the tests of today"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &pgtidehttp.Transport{DB: front.db, Keys: keys}}
	call := func(ctx context.Context, method, path string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, method, back.URL+path, nil)
		if err != nil {
			return "", err
		}
		res, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		return readAll(res.Body)
	}
	front.mux.Handle("/theirs", front.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		if _, err := call(r.Context(), "POST", "/write?id="+id(r)); err != nil {
			return err
		}
		return count(db, w, r)
	}))
	front.mux.Handle("/mine", front.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		if err := exec(db, r); err != nil {
			return err
		}
		body, err := call(r.Context(), "GET", "/read?id="+id(r))
		_, _ = io.WriteString(w, body)
		return err
	}))
	for _, path := range []string{"/theirs", "/mine"} {
		browser, row := newBrowser(t), newID()
		if _, body := request(t, browser, "GET", front.URL+path+"?id="+row, nil); body != "1" {
			t.Errorf("%s: %s rows are seen, want 1", path, body)
		}
		expectRow(t, browser, back, row, nil, "1") // the browser got the token too
	}
}

// The primary is stopped: pages are served, writes are told when to come back.
func TestReadOnlyMode(t *testing.T) {
	ctx := t.Context()
	c, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		t.Fatalf("start a cluster: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	i := newApp(t, func() (*lab.Cluster, error) { return c, nil }, pgtide.Options{}, pgtidehttp.Options{})
	i.mux.Handle("/page", pgtidehttp.ReadOnlyMode(i.db, i.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		var n int
		if err := db.QueryRow(r.Context(), "select 1").Scan(&n); err != nil {
			return err
		}
		fmt.Fprintf(w, "writable: %v", pgtidehttp.Writable(r.Context()))
		return nil
	})))
	i.mux.Handle("/ready", pgtidehttp.Ready(i.db))
	i.mux.Handle("/status", pgtidehttp.Status(i.db))
	expect := func(method, path string, status int, want string) {
		t.Helper()
		res, body := request(t, &http.Client{}, method, i.URL+path, nil)
		if res.StatusCode != status || !strings.Contains(body, want) {
			t.Errorf("%s %s is answered %d %q, want %d %q", method, path, res.StatusCode, body, status, want)
		}
		if status == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s is answered without Retry-After", method, path)
		}
	}
	expect("GET", "/page", 200, "writable: true")
	expect("POST", "/page", 200, "writable: true")
	primary := c.Primary()
	if err := primary.Stop(ctx); err != nil {
		t.Fatalf("stop the primary: %v", err)
	}
	await(t, func() bool { return !i.db.Writable() })
	expect("GET", "/page", 200, "writable: false")
	expect("POST", "/page", 503, "read-only for now")
	expect("GET", "/ready", 200, `"writable":false`)
	res, body := request(t, &http.Client{}, "GET", i.URL+"/status", nil)
	if res.StatusCode != 200 || !strings.Contains(body, `"state":"down"`) || strings.Contains(body, "127.0.0.1") || strings.Contains(body, "user=") {
		t.Errorf("/status is answered %d %q, want a node that is down and no address", res.StatusCode, body)
	}
	if err := primary.Start(ctx); err != nil {
		t.Fatalf("start the primary: %v", err)
	}
	await(t, i.db.Writable)
	expect("POST", "/page", 200, "writable: true")
}

// await returns once is says so: the DB learns it at one of its next probes.
func await(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !is(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it has not come true within 20s")
		}
	}
}
