package pgtidehttp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// view is a handler that is a type, and called has one that is a method.
type view struct{ h http.Handler }

func (v view) ServeHTTP(w http.ResponseWriter, r *http.Request) { v.h.ServeHTTP(w, r) }

type called struct{ h http.Handler }

func (c *called) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.h.ServeHTTP(w, r) }

func (c *called) method(w http.ResponseWriter, r *http.Request) { c.h.ServeHTTP(w, r) }

// Upstream's table finds views by import path, path or name. A Go handler has no
// import path: where it is routed it is wrapped, whatever kind of handler it is.
func TestCasesOfOverrides(t *testing.T) {
	names := map[string]string{ // by pattern, as another router may have them
		"/with_name":                "view-name",
		"/namespace/with-namespace": "namespace:with-namespace",
	}
	var i *instance
	i = newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{
		Routes: []pgtidehttp.Route{
			{Pattern: "/exact/auth/{$}", Use: "primary"},
			{Pattern: "/admin/*", Use: "primary"},
			{Name: "view-name", Use: "primary"},
			{Name: "namespace:with-namespace", Use: "primary"},
			{Pattern: "/replica/", Use: "replica"},
		},
		RouteName: func(r *http.Request) string {
			_, pattern := i.mux.Handler(r)
			return names[pattern]
		},
	})
	page := where(i)
	object := &called{page}
	for pattern, h := range map[string]http.Handler{
		"/{$}":                      pgtidehttp.UsePrimary(page),
		"/as_class":                 pgtidehttp.UsePrimary(view{page}),
		"/as_callable":              pgtidehttp.UsePrimary(object),
		"/as_instancemethod":        pgtidehttp.UsePrimary(http.HandlerFunc(object.method)),
		"/exact/auth/":              page,
		"/admin/auth/":              page,
		"/with_name":                page,
		"/namespace/with-namespace": page,
		"/replica/":                 page,
		"/plain":                    page,
	} {
		i.mux.Handle(pattern, h)
	}
	for _, tt := range []struct{ name, path, note string }{
		{"T13 a function that is wrapped", "/", "wrapper UsePrimary"},
		{"T14 a handler type that is wrapped", "/as_class", "wrapper UsePrimary"},
		{"T15 a handler object that is wrapped", "/as_callable", "wrapper UsePrimary"},
		{"T16 a method that is wrapped", "/as_instancemethod", "wrapper UsePrimary"},
		{"T17 an exact path", "/exact/auth/", "route /exact/auth/{$}: primary"},
		{"T18 a path with a star", "/admin/auth/", "route /admin/*: primary"},
		{"T19 a route's name", "/with_name", "route view-name: primary"},
		{"T20 a route's name in a namespace", "/namespace/with-namespace", "route namespace:with-namespace: primary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			browser := newBrowser(t)
			s := ask(t, browser, "GET", i.URL+tt.path, nil)
			s.expect(t, onPrimary, "0")
			if s.status != http.StatusFound || s.note != tt.note {
				t.Errorf("status %d, decided by %q, want %q", s.status, s.note, tt.note)
			}
			s.carriesNothing(t)
			// Nothing of it is left for the client's next request.
			ask(t, browser, "GET", i.URL+"/plain", nil).expect(t, onReplica, "0")
		})
	}
	// As upstream: a client that has written sees that, whatever the override
	// says. There the cookie leads to the master; here a replica would do as soon
	// as it had the write.
	t.Run("X8 the token is a floor under an override", func(t *testing.T) {
		browser, row := newBrowser(t), newID()
		ask(t, browser, "POST", i.URL+"/plain?write=yes&id="+row, nil)
		s := ask(t, browser, "GET", i.URL+"/replica/?id="+row, nil)
		s.expect(t, onPrimary, "1")
		if s.note != "route /replica/: replica" {
			t.Errorf("decided by %q", s.note)
		}
	})
	// Upstream resolves the path itself and raises in the middleware, so that its
	// own response handling is skipped. Here it is the application's 404, which
	// may even have written.
	t.Run("X10 a path that nobody serves", func(t *testing.T) {
		res, _ := request(t, newBrowser(t), "GET", i.URL+"/admin", nil)
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("status %d, want the mux's own 404", res.StatusCode)
		}
		i.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if _, err := i.db.Exec(r.Context(), "insert into message (id) values ($1)", id(r)); err != nil {
				t.Error(err)
			}
			http.NotFound(w, r)
		})
		browser, row := newBrowser(t), newID()
		res, _ = request(t, browser, "GET", i.URL+"/nowhere?id="+row, nil)
		if res.StatusCode != http.StatusNotFound || len(res.Cookies()) != 1 {
			t.Errorf("status %d, cookies %v", res.StatusCode, res.Cookies())
		}
		ask(t, browser, "GET", i.URL+"/plain?id="+row, nil).expect(t, onPrimary, "1")
	})
	// Upstream takes any value for a state, at the first request: 'slave1' reads
	// from any slave and makes every write fail.
	t.Run("X18 a bad override is found at start", func(t *testing.T) {
		keys, err := pgtide.NewKeys([]byte("a secret for the tests of today"))
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			route pgtidehttp.Route
			says  string
		}{
			{pgtidehttp.Route{Pattern: "/", Use: "slave1"}, "slave1"},
			{pgtidehttp.Route{Pattern: "/", Use: "Primary"}, "Primary"},
			{pgtidehttp.Route{Pattern: "/", Use: ""}, "use"},
			{pgtidehttp.Route{Pattern: "/", Use: "group:nobody"}, "nobody"},
			{pgtidehttp.Route{Pattern: "admin/*", Use: "primary"}, "admin/*"},
			{pgtidehttp.Route{Pattern: "/a/../b", Use: "primary"}, "/a/../b"},
			{pgtidehttp.Route{Pattern: "/a?b=c", Use: "primary"}, "/a?b=c"},
			{pgtidehttp.Route{Pattern: "post /", Use: "primary"}, "post"},
			{pgtidehttp.Route{Name: "view-name", Use: "primary"}, "RouteName"},
		} {
			said := panicOf(func() {
				pgtidehttp.New(i.db, pgtidehttp.Options{Keys: keys, Routes: []pgtidehttp.Route{tt.route}})
			})
			if !strings.Contains(said, tt.says) {
				t.Errorf("%+v: New says %q, want something about %q", tt.route, said, tt.says)
			}
		}
	})
}

// panicOf returns what f panics with, or the empty text.
func panicOf(f func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	f()
	return ""
}

// Upstream's decorators keep a state for the thread: it is wiped by an inner one,
// left behind by a panic, and read by the middleware outside.
func TestCasesOfWrappers(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{WritersOnPrimary: true})
	page := where(i)
	i.mux.Handle("/", page)
	// The middleware there sees master state after the view, and sets the cookie:
	// all its clients move to the master.
	t.Run("X11 a redirect of UseReplica leaves no cookie", func(t *testing.T) {
		i.mux.Handle("/wrapped", pgtidehttp.UseReplica(page))
		browser := newBrowser(t)
		for _, method := range []string{"GET", "POST"} {
			s := ask(t, browser, method, i.URL+"/wrapped", nil)
			s.expect(t, onReplica, "0")
			s.carriesNothing(t)
		}
		ask(t, browser, "GET", i.URL+"/", nil).expect(t, onReplica, "0")
	})
	// There the inner one resets the state: the rest of the outer view reads from
	// the master, which it was not told to.
	t.Run("X12 wrappers inside one another", func(t *testing.T) {
		var roles []pgtide.Role
		read := func(r *http.Request) {
			if _, err := countOf(r.Context(), i.db, "none"); err != nil {
				t.Error(err)
			}
			roles = append(roles, last(t, r.Context()).Role)
		}
		innermost := pgtidehttp.UseReplica(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { read(r) }))
		inner := pgtidehttp.UsePrimary(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			read(r)
			innermost.ServeHTTP(w, r)
			read(r)
		}))
		i.mux.Handle("/nested", pgtidehttp.UseReplica(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			read(r)
			inner.ServeHTTP(w, r)
			read(r)
		})))
		ask(t, newBrowser(t), "GET", i.URL+"/nested", nil)
		if got, want := fmt.Sprint(roles), "[replica primary replica primary replica]"; got != want {
			t.Errorf("reads went to %s, want %s", got, want)
		}
	})
	// There the state stays with the thread: the next view reads from a slave.
	t.Run("X13 a panic leaves nothing behind", func(t *testing.T) {
		broken := pgtidehttp.UseReplica(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a view that goes wrong") }))
		i.mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) {
			if said := panicOf(func() { broken.ServeHTTP(w, r) }); said == "" {
				t.Error("the view did not panic")
			}
			tellWhere(i.db, w, r, http.StatusOK)
		})
		s := ask(t, newBrowser(t), "POST", i.URL+"/broken", nil)
		s.expect(t, onPrimary, "0")
		if s.note != "method that may write" {
			t.Errorf("decided by %q", s.note)
		}
		ask(t, newBrowser(t), "POST", i.URL+"/", nil).expect(t, onPrimary, "0")
	})
}
