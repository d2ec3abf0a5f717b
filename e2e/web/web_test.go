package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// TestRouters has a browser and an API client write on one instance and read on
// another, under each router.
func TestRouters(t *testing.T) {
	c := paused.New(t, schema)
	for _, r := range routers {
		t.Run(r.name, func(t *testing.T) {
			a, b := twoInstances(t, c, r)
			t.Run("post redirect get", func(t *testing.T) { postRedirectGet(t, a, b) })
			t.Run("API", func(t *testing.T) { api(t, a, b) })
			t.Run("overrides", func(t *testing.T) { overrides(t, r, a) })
			t.Run("transaction", func(t *testing.T) { transactions(t, c, a) })
			t.Run("panic", func(t *testing.T) { panics(t, r, a, b) })
			t.Run("events", func(t *testing.T) { events(t, a, b) })
			if !r.http2 { // where there is nothing to hijack
				t.Run("websocket", func(t *testing.T) { sockets(t, a, b) })
			}
			t.Run("file", func(t *testing.T) { files(t, r, a) })
			t.Run("controller", func(t *testing.T) { controller(t, a, b) })
			t.Run("no route", func(t *testing.T) {
				if res, _ := do(t, newClient(true), "GET", a.URL+"/nowhere", "", nil); res.StatusCode != http.StatusNotFound {
					t.Errorf("status %d, want the router's own 404", res.StatusCode)
				}
			})
		})
	}
}

func postRedirectGet(t *testing.T, a, b *instance) {
	browser := newClient(true)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	res, _ := do(t, browser, "POST", a.URL+"/note", "text=hello", form)
	page := res.Header.Get("Location")
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(page, "/note?id=") {
		t.Fatalf("POST: %d to %q", res.StatusCode, page)
	}
	shows(t, newClient(true), b, page, "", nil) // the control: the replicas have nothing
	for range 3 {
		shows(t, browser, b, page, "hello", nil)
	}
	shows(t, browser, a, page, "hello", nil)
}

func api(t *testing.T, a, b *instance) {
	client := newClient(false)
	res, id := do(t, client, "POST", a.URL+"/api/note", `"from an API"`, http.Header{"Content-Type": {"application/json"}})
	token := res.Header.Get(pgtidehttp.DefaultHeader)
	if res.StatusCode != http.StatusCreated || token == "" {
		t.Fatalf("POST: %d, token %q", res.StatusCode, token)
	}
	page := "/note?id=" + strings.TrimSpace(id)
	shows(t, client, b, page, "", nil)
	shows(t, client, b, page, "from an API", http.Header{pgtidehttp.DefaultHeader: {token}})
}

func overrides(t *testing.T, r router, a *instance) {
	const primary, replica = pgtide.RolePrimary, pgtide.RoleReplica
	report, note := primary, ": primary"
	if r.unnamed {
		report, note = replica, ""
	}
	for _, tt := range []struct {
		method, path string
		role         pgtide.Role
		note         string
	}{
		{"GET", "/page", replica, ""},
		{"POST", "/page", primary, "method that may write"},
		{"GET", "/ledger", primary, "route GET /ledger: primary"},
		{"GET", "/admin/users/list", primary, "route /admin/*: primary"},
		{"POST", "/search", replica, "route POST /search: replica"},
		{"GET", "/users/ann", primary, "route /users/{name}: strong"},
		{"GET", "/report", report, note},
		{"GET", "/wrapped", primary, "wrapper UsePrimary"},
		{"GET", "/eventual", replica, "wrapper Use eventual"},
	} {
		res, body := do(t, newClient(false), tt.method, a.URL+tt.path, "", nil)
		var d pgtide.Decision
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Errorf("%s %s: %d %q", tt.method, tt.path, res.StatusCode, body)
		} else if d.Role != tt.role || !strings.HasSuffix(d.Note, tt.note) {
			t.Errorf("%s %s was read from a %s, noted %q; want a %s, noted %q", tt.method, tt.path, d.Role, d.Note, tt.role, tt.note)
		}
		if res.Header.Get(pgtidehttp.DefaultHeader) != "" || len(res.Cookies()) > 0 {
			t.Errorf("%s %s wrote nothing and was sent a token", tt.method, tt.path)
		}
	}
}

// A request that fails has written nothing, however its router is told that it
// failed.
func transactions(t *testing.T, c *paused.Cluster, a *instance) {
	for path, want := range map[string]struct{ status, rows int }{
		"/tx":       {http.StatusNoContent, 1},
		"/tx/error": {http.StatusInternalServerError, 0},
	} {
		text := t.Name() + path
		res, _ := do(t, newClient(true), "POST", a.URL+path+"?text="+url.QueryEscape(text), "", nil)
		var rows int
		err := c.DB.QueryRow(pgtide.OnPrimary(t.Context()), "select count(*) from note where text = $1", text).Scan(&rows)
		if err != nil || res.StatusCode != want.status || rows != want.rows {
			t.Errorf("%s: status %d and %d rows, %v; want %d and %d", path, res.StatusCode, rows, err, want.status, want.rows)
		}
		if token := res.Header.Get(pgtidehttp.DefaultHeader); (token != "") != (want.rows > 0) {
			t.Errorf("%s: token %q", path, token)
		}
	}
}

// A request that wrote and then panicked has written.
func panics(t *testing.T, r router, a, b *instance) {
	if r.aborts {
		res, err := newClient(true).Post(a.URL+"/panic", "", nil)
		if err == nil {
			res.Body.Close()
			t.Errorf("status %d, want the connection closed", res.StatusCode)
		}
		return
	}
	browser := newClient(true)
	res, _ := do(t, browser, "POST", a.URL+"/panic", "", nil)
	if res.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d, want 500", res.StatusCode)
	}
	shows(t, browser, b, fmt.Sprint("/note?id=", res.Header.Get("X-Id")), "before the panic", nil)
}
