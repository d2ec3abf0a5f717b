package pgtidehttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// explain reads in the request's context and answers with its decisions.
func explain(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
	var n int
	if err := db.QueryRow(r.Context(), "select count(*) from message").Scan(&n); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(pgtide.Explain(r.Context()))
}

// decided asks for a page that explains itself and returns its last decision.
func decided(t *testing.T, c *http.Client, method, url string, header http.Header) pgtide.Decision {
	t.Helper()
	res, body := request(t, c, method, url, header)
	var d []pgtide.Decision
	if err := json.Unmarshal([]byte(body), &d); err != nil || len(d) == 0 {
		t.Fatalf("%s %s: %d %q: %v", method, url, res.StatusCode, body, err)
	}
	return d[len(d)-1]
}

// Where calls go by method, route, header and wrapper, and how Explain says it.
func TestDecisions(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{
		WritersOnPrimary: true,
		Trust:            func(r *http.Request) bool { return r.Header.Get("Friend") != "" },
		Routes: []pgtidehttp.Route{
			{Pattern: "/admin/*", Use: "primary"},
			{Pattern: "POST /search", Use: "replica"},
			{Pattern: "/report", Use: "group:analytics"},
			{Pattern: "/bill", Use: "strong"},
		},
	})
	page := i.handle(explain)
	i.mux.Handle("/", page)
	i.mux.Handle("/wrapped/primary", pgtidehttp.UsePrimary(page))
	i.mux.Handle("/wrapped/replica", pgtidehttp.UseReplica(page))
	i.mux.Handle("/wrapped/strong", pgtidehttp.Use(pgtide.Strong, page))
	i.mux.Handle("/wrapped/group", pgtidehttp.UseGroup("analytics", page))
	i.mux.Handle("/admin/wrapped", pgtidehttp.UseReplica(page))
	i.mux.Handle("/admin/eventual", pgtidehttp.Use(pgtide.Eventual, page))
	const primary, replica = pgtide.RolePrimary, pgtide.RoleReplica
	order := func(text string) http.Header {
		return http.Header{pgtidehttp.DefaultConsistencyHeader: {text}, "Friend": {"yes"}}
	}
	for _, tt := range []struct {
		method, path string
		header       http.Header
		role         pgtide.Role
		reason       pgtide.Reason
		note         string
	}{
		{"GET", "/", nil, replica, "", ""},
		{"POST", "/", nil, primary, pgtide.ReasonForced, "method that may write"},
		{"GET", "/admin/users/7", nil, primary, pgtide.ReasonForced, "route /admin/*: primary"},
		{"POST", "/search", nil, replica, "", "route POST /search: replica"},
		{"GET", "/report", nil, replica, "", "route /report: group:analytics"},
		{"GET", "/bill", nil, primary, pgtide.ReasonStrong, "route /bill: strong"},
		{"GET", "/", order("primary"), primary, pgtide.ReasonForced, "header X-Pgtide-Consistency: primary"},
		{"GET", "/admin/x", order("replica"), replica, "", "header X-Pgtide-Consistency: replica"},
		{"GET", "/bill", order("eventual"), replica, pgtide.ReasonAny, "header X-Pgtide-Consistency: eventual"},
		{"GET", "/", http.Header{pgtidehttp.DefaultConsistencyHeader: {"primary"}}, replica, "", ""},
		{"GET", "/wrapped/primary", nil, primary, pgtide.ReasonForced, "wrapper UsePrimary"},
		{"POST", "/wrapped/replica", nil, replica, "", "wrapper UseReplica, over method that may write"},
		{"GET", "/wrapped/strong", nil, primary, pgtide.ReasonStrong, "wrapper Use strong"},
		{"GET", "/wrapped/group", nil, replica, "", "wrapper UseGroup analytics"},
		{"GET", "/wrapped/primary", order("replica"), primary, pgtide.ReasonForced, "wrapper UsePrimary, over header X-Pgtide-Consistency: replica"},
		{"GET", "/admin/wrapped", nil, replica, "", "wrapper UseReplica, over route /admin/*: primary"},
		{"GET", "/admin/eventual", nil, replica, pgtide.ReasonAny, "wrapper Use eventual, over route /admin/*: primary"},
	} {
		t.Run(fmt.Sprint(tt.method, tt.path, tt.header), func(t *testing.T) {
			d := decided(t, newBrowser(t), tt.method, i.URL+tt.path, tt.header)
			if d.Role != tt.role || d.Note != tt.note || tt.reason != "" && d.Reason != tt.reason {
				t.Errorf("the read went to the %s, %s (%q); want the %s, %s (%q)", d.Role, d.Reason, d.Note, tt.role, tt.reason, tt.note)
			}
		})
	}
}

// The token is a floor under every way to a replica that does not ask for less.
func TestTokenIsAFloor(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{
		Trust:  func(*http.Request) bool { return true },
		Routes: []pgtidehttp.Route{{Pattern: "/route", Use: "replica"}, {Pattern: "/group", Use: "group:analytics"}},
	})
	i.mux.Handle("POST /write", i.handle(writers[0].serve))
	for _, path := range []string{"/route", "/group", "/header"} {
		i.mux.Handle(path, i.handle(explain))
	}
	i.mux.Handle("/wrapper", pgtidehttp.UseReplica(i.handle(explain)))
	i.mux.Handle("/eventual", pgtidehttp.Use(pgtide.Eventual, i.handle(explain)))
	browser := newBrowser(t)
	request(t, browser, "POST", i.URL+"/write?id="+newID(), nil)
	for _, path := range []string{"/route", "/group", "/wrapper", "/header"} {
		header := http.Header{}
		if path == "/header" {
			header.Set(pgtidehttp.DefaultConsistencyHeader, "replica")
		}
		if d := decided(t, browser, "GET", i.URL+path, header); d.Role != pgtide.RolePrimary || d.Reason != pgtide.ReasonLagging {
			t.Errorf("%s: the read went to the %s, %s; want the primary, for the replica lags", path, d.Role, d.Reason)
		}
	}
	if d := decided(t, browser, "GET", i.URL+"/eventual", nil); d.Role != pgtide.RoleReplica {
		t.Errorf("with Eventual the read went to the %s, %s; want the replica", d.Role, d.Reason)
	}
}

// A handler that only reads and redirects leaves nothing with the browser.
func TestRedirectOfAReadPinsNobody(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{PinFor: time.Minute})
	i.mux.Handle("/go", pgtidehttp.UseReplica(i.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		http.Redirect(w, r, "/page", http.StatusFound)
		return nil
	})))
	i.mux.Handle("/page", i.handle(explain))
	if d := decided(t, newBrowser(t), "GET", i.URL+"/go", nil); d.Role != pgtide.RoleReplica || d.Note != "" {
		t.Errorf("the page was read at the %s, %s (%q); want a replica", d.Role, d.Reason, d.Note)
	}
}

func TestPinFor(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{Consistency: pgtide.Session}, pgtidehttp.Options{
		PinFor: time.Minute,
		Routes: []pgtidehttp.Route{{Pattern: "/route", Use: "read_your_writes"}, {Pattern: "/both", Use: "primary"}},
	})
	i.mux.Handle("POST /write", i.handle(writers[0].serve))
	i.mux.Handle("/page", i.handle(explain))
	i.mux.Handle("/route", i.handle(explain))
	i.mux.Handle("/both", pgtidehttp.UseReplica(i.handle(explain)))
	i.mux.Handle("/wrapper", pgtidehttp.Use(pgtide.ReadYourWrites, i.handle(explain)))
	i.mux.Handle("/replica", pgtidehttp.UseReplica(i.handle(explain)))
	i.mux.Handle("/eventual", pgtidehttp.Use(pgtide.Eventual, i.handle(explain)))
	reader := newBrowser(t)
	for range 3 { // reads move the token of a session at this level, and pin nobody
		if d := decided(t, reader, "GET", i.URL+"/page", nil); d.Reason == pgtide.ReasonStrong {
			t.Errorf("a browser that has not written is pinned: it reads at the %s, %s", d.Role, d.Reason)
		}
	}
	writer := newBrowser(t)
	request(t, writer, "POST", i.URL+"/write?id="+newID(), nil)
	for _, path := range []string{"/page", "/page", "/replica", "/route", "/wrapper", "/both"} {
		if d := decided(t, writer, "GET", i.URL+path, nil); d.Reason != pgtide.ReasonStrong {
			t.Errorf("%s: a browser that has just written reads at the %s, %s; want the primary, pinned", path, d.Role, d.Reason)
		}
	}
	if d := decided(t, writer, "GET", i.URL+"/eventual", nil); d.Role != pgtide.RoleReplica {
		t.Errorf("with Eventual the read went to the %s, %s; want the replica", d.Role, d.Reason)
	}
}

// A client is pinned too by what another service wrote for it, whatever else the
// request has read.
func TestPinForWritesElsewhere(t *testing.T) {
	back := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{PinFor: time.Minute})
	back.mux.Handle("POST /write", back.handle(writers[0].serve))
	front := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{PinFor: time.Minute})
	keys, err := pgtide.NewKeys([]byte("a secret for the tests of today"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &pgtidehttp.Transport{DB: front.db, Keys: keys}}
	front.mux.Handle("POST /write", front.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		var n int
		if err := db.QueryRow(r.Context(), "select count(*) from message").Scan(&n); err != nil {
			return err
		}
		call, err := http.NewRequestWithContext(r.Context(), http.MethodPost, back.URL+"/write?id="+id(r), nil)
		if err != nil {
			return err
		}
		res, err := client.Do(call)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}))
	front.mux.Handle("/page", front.handle(explain))
	browser := newBrowser(t)
	if res, body := request(t, browser, "POST", front.URL+"/write?id="+newID(), nil); res.StatusCode != http.StatusOK {
		t.Fatalf("the write is answered %d %q", res.StatusCode, body)
	}
	if d := decided(t, browser, "GET", front.URL+"/page", nil); d.Reason != pgtide.ReasonStrong {
		t.Errorf("a browser that has just written reads at the %s, %s; want the primary, pinned", d.Role, d.Reason)
	}
}

// A write in a request that reads: refused, told, or done and then seen.
func TestWriteInRead(t *testing.T) {
	for _, tt := range []struct {
		guard pgtide.Guard
		want  string
		told  int32
	}{
		{pgtide.GuardOff, "1", 0},
		{pgtide.GuardLog, "1", 1},
		{pgtide.GuardError, "not allowed", 1},
	} {
		var told atomic.Int32
		o := pgtide.Options{Hooks: pgtide.Hooks{OnGuard: func(context.Context, *pgtide.WriteGuardError) { told.Add(1) }}}
		i := newApp(t, cluster, o, pgtidehttp.Options{WriteInRead: tt.guard})
		page := i.handle(func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
			switch err := exec(db, r); {
			case errors.Is(err, pgtide.ErrWriteNotAllowed):
				fmt.Fprint(w, "not allowed")
				return nil
			case err != nil:
				return err
			}
			var n int
			if err := db.QueryRow(r.Context(), "select count(*) from message where id = $1", id(r)).Scan(&n); err != nil {
				return err
			}
			fmt.Fprint(w, n)
			return nil
		})
		i.mux.Handle("/", page)
		i.mux.Handle("/primary", pgtidehttp.UsePrimary(page))
		i.mux.Handle("/allowed", pgtidehttp.AllowWrites(page))
		i.mux.Handle("/replica", pgtidehttp.UseReplica(page))
		for _, p := range []struct {
			method, path string
			guarded      bool
		}{
			{"GET", "/", true}, {"POST", "/replica", true},
			{"POST", "/", false}, {"GET", "/primary", false}, {"GET", "/allowed", false},
		} {
			told.Store(0)
			want, wantTold := "1", int32(0)
			if p.guarded {
				want, wantTold = tt.want, tt.told
			}
			if _, body := request(t, newBrowser(t), p.method, i.URL+p.path+"?id="+newID(), nil); body != want || told.Load() != wantTold {
				t.Errorf("guard %d, %s %s: the response is %q and the hook was told %d times, want %q and %d", tt.guard, p.method, p.path, body, told.Load(), want, wantTold)
			}
		}
	}
}

// Under the guard of the DB, writes need AllowWrites, whatever the method.
func TestWriteGuard(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{Guard: pgtide.GuardError}, pgtidehttp.Options{})
	i.mux.Handle("/bare", i.handle(writers[1].serve))
	i.mux.Handle("/allowed", pgtidehttp.AllowWrites(i.handle(writers[1].serve)))
	if res, _ := request(t, newBrowser(t), "POST", i.URL+"/bare?id="+newID(), nil); len(res.Cookies()) != 0 {
		t.Errorf("a write outside AllowWrites was sent cookies %v: it was done", res.Cookies())
	}
	if res, body := request(t, newBrowser(t), "POST", i.URL+"/allowed?id="+newID(), nil); res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
		t.Errorf("a write in AllowWrites is answered %d %q, want 200 and a token", res.StatusCode, body)
	}
}
