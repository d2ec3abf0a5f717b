package pgtidehttp

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/pgtide/pgtide"
)

// seen returns the scope that a handler behind wrap finds.
func seen(t *testing.T, r *http.Request, wrap func(http.Handler) http.Handler) (s scope) {
	t.Helper()
	called := false
	h := wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s, called = *scopeOf(r.Context()), true }))
	h.ServeHTTP(httptest.NewRecorder(), r)
	if !called {
		t.Fatal("the handler was not called")
	}
	return s
}

func trustAll(*http.Request) bool { return true }

// What decides, from the method up. Where calls really go is tested on a cluster.
func TestOrderOfDecision(t *testing.T) {
	options := Options{
		Trust:  trustAll,
		Routes: []Route{{Pattern: "/r/*", Use: "replica"}, {Pattern: "/p/*", Use: "primary"}, {Pattern: "/s/*", Use: "session"}},
	}
	strict := options
	strict.WritersOnPrimary = true
	none := func(h http.Handler) http.Handler { return h }
	for _, tt := range []struct {
		name           string
		options        Options
		method, target string
		header         string
		wrapper        func(http.Handler) http.Handler
		reads          bool
		note           string
	}{
		{"GET", options, "GET", "/", "", none, true, ""},
		{"HEAD", options, "HEAD", "/", "", none, true, ""},
		{"OPTIONS", options, "OPTIONS", "/", "", none, true, ""},
		{"TRACE", options, "TRACE", "/", "", none, true, ""},
		{"POST", options, "POST", "/", "", none, false, ""},
		{"PROPFIND", options, "PROPFIND", "/", "", none, false, ""},
		{"configured", Options{ReadMethods: []string{"PROPFIND"}}, "PROPFIND", "/", "", none, true, ""},
		{"configured away", Options{ReadMethods: []string{"PROPFIND"}}, "GET", "/", "", none, false, ""},
		{"strict POST", strict, "POST", "/", "", none, false, "method that may write"},
		{"strict GET", strict, "GET", "/", "", none, true, ""},
		{"route", options, "GET", "/p/x", "", none, false, "route /p/*: primary"},
		{"route over method", strict, "POST", "/r/x", "", none, true, "route /r/*: replica"},
		{"route leaves the intent", options, "POST", "/s/x", "", none, false, "route /s/*: session"},
		{"header over route", options, "GET", "/p/x", "replica", none, true, "header X-Pgtide-Consistency: replica"},
		{"header in other case", options, "GET", "/p/x", "Replica", none, false, "route /p/*: primary"},
		{"unknown header", options, "GET", "/p/x", "master", none, false, "route /p/*: primary"},
		{"unknown group", options, "GET", "/p/x", "group:x", none, false, "route /p/*: primary"},
		{"known group", options, "GET", "/p/x", "group:analytics", none, true, "header X-Pgtide-Consistency: group:analytics"},
		{"wrapper over header", options, "GET", "/", "replica", UsePrimary, false, "wrapper UsePrimary, over header X-Pgtide-Consistency: replica"},
		{"wrapper over route", options, "POST", "/p/x", "", UseReplica, true, "wrapper UseReplica, over route /p/*: primary"},
		{"wrapper over method", strict, "POST", "/", "", UseReplica, true, "wrapper UseReplica, over method that may write"},
		{"wrapper takes the intent back", options, "GET", "/p/x", "", func(h http.Handler) http.Handler { return Use(pgtide.Session, h) }, true,
			"wrapper Use session, over route /p/*: primary"},
		{"inner wrapper", options, "GET", "/", "", func(h http.Handler) http.Handler { return UsePrimary(UseReplica(h)) }, true, "wrapper UseReplica"},
		{"wrappers add up", options, "GET", "/", "", func(h http.Handler) http.Handler { return UsePrimary(UseGroup("analytics", h)) }, false, "wrapper UseGroup analytics"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newTest(t, tt.options)
			r := httptest.NewRequest(tt.method, tt.target, nil)
			if tt.header != "" {
				r.Header.Set(DefaultConsistencyHeader, tt.header)
			}
			s := seen(t, r, func(h http.Handler) http.Handler { return m.Wrap(tt.wrapper(h)) })
			if s.reads != tt.reads || s.note != tt.note {
				t.Errorf("the request reads: %v, and %q decided; want %v and %q", s.reads, s.note, tt.reads, tt.note)
			}
			misread := int64(0)
			if tt.name == "unknown header" || tt.name == "unknown group" || tt.name == "header in other case" {
				misread = 1
			}
			if got := m.Stat().Misread; got != misread {
				t.Errorf("%d headers are counted misread, want %d", got, misread)
			}
		})
	}
}

func TestHeaderIsNotTrusted(t *testing.T) {
	for name, trust := range map[string]func(*http.Request) bool{"nobody is": nil, "this one is not": func(*http.Request) bool { return false }} {
		m := newTest(t, Options{Trust: trust})
		r := get()
		r.Header.Set(DefaultConsistencyHeader, "primary")
		if s := seen(t, r, m.Wrap); !s.reads || s.note != "" {
			t.Errorf("%s: the header decided: %q", name, s.note)
		}
		if got := *m.Stat(); got != (Stat{}) {
			t.Errorf("%s: counters are %+v, want zeros", name, got)
		}
	}
}

func TestRouteNames(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /checkout/{id}", http.NotFoundHandler())
	m := newTest(t, Options{RouteName: MuxNames(mux), Routes: []Route{{Name: "GET /checkout/{id}", Use: "primary"}}})
	if s := seen(t, httptest.NewRequest("GET", "/checkout/7", nil), m.Wrap); s.reads || s.note != "route GET /checkout/{id}: primary" {
		t.Errorf("the request reads: %v, and %q decided; want the route of this name", s.reads, s.note)
	}
	if s := seen(t, httptest.NewRequest("GET", "/cart", nil), m.Wrap); !s.reads || s.note != "" {
		t.Errorf("%q decided for a path that has no route", s.note)
	}
}

// A wrapper may stand outside of Wrap, and between two.
func TestWrappersAroundWrap(t *testing.T) {
	m := newTest(t, Options{Routes: []Route{{Pattern: "/", Use: "replica"}}})
	if s := seen(t, get(), func(h http.Handler) http.Handler { return UsePrimary(m.Wrap(h)) }); s.reads || s.note != "wrapper UsePrimary" {
		t.Errorf("outside: %q decided", s.note)
	}
	if s := seen(t, get(), func(h http.Handler) http.Handler { return m.Wrap(UsePrimary(m.Wrap(h))) }); s.reads || s.by != byWrapper {
		t.Errorf("between: %q decided", s.note)
	}
	if s := seen(t, get(), UseReplica); !s.reads || s.w != nil {
		t.Errorf("without Wrap: %q decided", s.note)
	}
	post := httptest.NewRequest(http.MethodPost, "/", nil)
	if s := seen(t, post, func(h http.Handler) http.Handler { return Use(pgtide.Strong, m.Wrap(h)) }); s.reads {
		t.Error("a wrapper that says nothing of the intent made a POST read")
	}
}

// What an inner handler is told ends with it, also when it panics.
func TestWrappersEnd(t *testing.T) {
	m := newTest(t, Options{})
	inner := UsePrimary(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("inner") }))
	m.Wrap(UseReplica(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the inner handler's panic was swallowed")
				}
			}()
			inner.ServeHTTP(w, r)
		}()
		if s := scopeOf(r.Context()); !s.reads || s.note != "wrapper UseReplica" {
			t.Errorf("after the inner handler %q decides", s.note)
		}
	}))).ServeHTTP(httptest.NewRecorder(), get())
}

func TestUsePanics(t *testing.T) {
	for _, c := range []pgtide.Consistency{0, pgtide.Strong - 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Use(%d) does not panic", c)
				}
			}()
			Use(c, http.NotFoundHandler())
		}()
	}
}
