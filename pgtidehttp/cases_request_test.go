package pgtidehttp_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

const (
	onPrimary = pgtide.RolePrimary
	onReplica = pgtide.RoleReplica
)

// The replica of these tests applies nothing: what was written is on the primary
// alone.
func TestCasesOfRequests(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{
		Trust: func(r *http.Request) bool { return r.Header.Get("Friend") != "" },
	})
	i.mux.Handle("/", where(i))
	// Upstream's test asserts that the thread is in master state after a view
	// that was forced to it: it is so without the decorator, too. Here nothing
	// is left behind, so whoever goes on after the handler reads where it would
	// have read before.
	t.Run("T8 what a wrapper says ends with its handler", func(t *testing.T) {
		var inside, after pgtide.Decision
		inner := pgtidehttp.UsePrimary(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := countOf(r.Context(), i.db, "none"); err != nil {
				t.Error(err)
			}
			inside = last(t, r.Context())
		}))
		i.mux.HandleFunc("GET /outer", func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			if _, err := countOf(r.Context(), i.db, "none"); err != nil {
				t.Error(err)
			}
			after = last(t, r.Context())
		})
		ask(t, newBrowser(t), "GET", i.URL+"/outer", nil)
		if inside.Role != onPrimary || after.Role != onReplica {
			t.Errorf("inside it was read from a %s, after it from a %s; want primary, replica", inside.Role, after.Role)
		}
	})
	t.Run("T9 GET reads from a replica", func(t *testing.T) {
		ask(t, newBrowser(t), "GET", i.URL+"/", nil).expect(t, onReplica, "0")
	})
	t.Run("T10 HEAD reads from a replica", func(t *testing.T) {
		ask(t, newBrowser(t), "HEAD", i.URL+"/", nil).expect(t, onReplica, "0")
	})
	// Upstream sends everything in a POST to the master and marks each redirect
	// of one, with a cookie that anybody can make. Here the POST is at the
	// primary because it writes, and its cookie is signed.
	t.Run("T11 POST that writes leaves a token", func(t *testing.T) {
		browser, row := newBrowser(t), newID()
		s := ask(t, browser, "POST", i.URL+"/?write=yes&id="+row, nil)
		s.expect(t, onPrimary, "1")
		if len(s.cookies) != 1 || s.token == "" {
			t.Fatalf("the redirect brings cookies %v, token %q", s.cookies, s.token)
		}
		if c := s.cookies[0]; !strings.HasPrefix(c.Name, pgtidehttp.DefaultCookieName+"-") || c.Value != s.token || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 300 {
			t.Errorf("the cookie is %v", c)
		}
		forged := http.Header{"Cookie": {s.cookies[0].Name + "=" + strings.Repeat("A", len(s.token)), "just_updated=true"}}
		ask(t, newBrowser(t), "GET", i.URL+"/?id="+row, forged).expect(t, onReplica, "0")
		// A POST that writes nothing is not one that wrote: upstream's is.
		idle := ask(t, newBrowser(t), "POST", i.URL+"/", nil)
		idle.expect(t, onReplica, "0")
		idle.carriesNothing(t)
	})
	t.Run("T12 GET that redirects leaves no cookie", func(t *testing.T) {
		s := ask(t, newBrowser(t), "GET", i.URL+"/", nil)
		if s.status != http.StatusFound {
			t.Errorf("status %d", s.status)
		}
		s.carriesNothing(t)
	})
	// Upstream trusts the header of any client. Here it needs Trust; see X7, too.
	t.Run("T21 a trusted header decides", func(t *testing.T) {
		order := func(text string) http.Header {
			return http.Header{pgtidehttp.DefaultConsistencyHeader: {text}, "Friend": {"yes"}}
		}
		browser := newBrowser(t)
		ask(t, browser, "GET", i.URL+"/", order("primary")).expect(t, onPrimary, "0")
		ask(t, browser, "POST", i.URL+"/", order("replica")).expect(t, onReplica, "0")
		ask(t, browser, "GET", i.URL+"/", nil).expect(t, onReplica, "0")
	})
	// Upstream sets its cookie for a list of statuses, (302, 303) by default, so
	// that an API never gets it. What was written was written, whatever the status.
	t.Run("T22 the token leaves with any status", func(t *testing.T) {
		for _, status := range []int{200, 201, 204, 301, 302, 303, 307, 400, 404, 500} {
			path := "/status/" + http.StatusText(status)
			path = strings.ReplaceAll(path, " ", "-")
			i.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
				if _, err := i.db.Exec(r.Context(), "insert into message (id) values ($1)", id(r)); err != nil {
					t.Error(err)
				}
				w.Header().Set("Location", "/")
				w.WriteHeader(status)
			})
			browser, row := newBrowser(t), newID()
			browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			res, _ := request(t, browser, "POST", i.URL+path+"?id="+row, nil)
			if res.StatusCode != status || len(res.Cookies()) != 1 {
				t.Errorf("status %d, want %d; cookies %v", res.StatusCode, status, res.Cookies())
			}
			ask(t, browser, "GET", i.URL+"/?id="+row, nil).expect(t, onPrimary, "1")
		}
	})
	// Upstream deletes its cookie with the first GET, whatever its Max-Age.
	t.Run("X4 every GET after a POST sees its write", func(t *testing.T) {
		browser, row := newBrowser(t), newID()
		ask(t, browser, "POST", i.URL+"/?write=yes&id="+row, nil)
		for range 3 {
			s := ask(t, browser, "GET", i.URL+"/?id="+row, nil)
			s.expect(t, onPrimary, "1")
			s.carriesNothing(t) // and takes nothing back
		}
	})
	// Upstream sets the cookie anew for each redirect in master state. Here the
	// redirects on the way bring nothing, and change nothing.
	t.Run("X5 a chain of redirects sees the write", func(t *testing.T) {
		browser, row := newBrowser(t), newID()
		ask(t, browser, "POST", i.URL+"/?write=yes&id="+row, nil)
		for range 3 {
			s := ask(t, browser, "GET", i.URL+"/?id="+row, nil)
			s.expect(t, onPrimary, "1")
			s.carriesNothing(t)
		}
		// A chain that a client of its own follows, to its end.
		follower := newBrowser(t)
		i.mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
			if _, err := i.db.Exec(r.Context(), "insert into message (id) values ($1)", id(r)); err != nil {
				t.Error(err)
			}
			http.Redirect(w, r, "/hop?id="+id(r), http.StatusSeeOther)
		})
		i.mux.HandleFunc("GET /hop", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/end?id="+id(r), http.StatusFound)
		})
		i.mux.HandleFunc("GET /end", func(w http.ResponseWriter, r *http.Request) { tellWhere(i.db, w, r, http.StatusOK) })
		row = newID()
		res, _ := request(t, follower, "POST", i.URL+"/start?id="+row, nil)
		if res.Header.Get("X-Count") != "1" {
			t.Errorf("the end of the chain shows %q rows (status %d)", res.Header.Get("X-Count"), res.StatusCode)
		}
	})
	// Upstream gives a 201 nothing.
	t.Run("X6 POST 201 then GET", func(t *testing.T) {
		i.mux.HandleFunc("POST /create", func(w http.ResponseWriter, r *http.Request) { tellWhere(i.db, w, r, http.StatusCreated) })
		client, row := &http.Client{}, newID()
		s := ask(t, client, "POST", i.URL+"/create?write=yes&id="+row, nil)
		if s.status != http.StatusCreated {
			t.Errorf("status %d", s.status)
		}
		ask(t, client, "GET", i.URL+"/?id="+row, nil).expect(t, onReplica, "0")
		ask(t, client, "GET", i.URL+"/?id="+row, http.Header{pgtidehttp.DefaultHeader: {s.token}}).expect(t, onPrimary, "1")
	})
	// Upstream's header beats its cookie, and anybody's is trusted: one that says
	// slave hides a client's own write from it. Here the token is a floor under
	// the header, unless that asks for nothing at all.
	t.Run("X7 header and token", func(t *testing.T) {
		browser, row := newBrowser(t), newID()
		ask(t, browser, "POST", i.URL+"/?write=yes&id="+row, nil)
		order := func(text, friend string) http.Header {
			return http.Header{pgtidehttp.DefaultConsistencyHeader: {text}, "Friend": {friend}}
		}
		ask(t, browser, "GET", i.URL+"/?id="+row, order("replica", "yes")).expect(t, onPrimary, "1")
		ask(t, browser, "GET", i.URL+"/?id="+row, order("eventual", "yes")).expect(t, onReplica, "0")
		ask(t, browser, "GET", i.URL+"/?id="+row, order("eventual", "")).expect(t, onPrimary, "1")
		ask(t, newBrowser(t), "GET", i.URL+"/", order("primary", "")).expect(t, onReplica, "0")
	})
	// As upstream: values are compared as they are, and others are ignored. Here
	// that is counted. Names of headers have no case.
	t.Run("X9 the header's case", func(t *testing.T) {
		before := i.middleware.Stat().Misread
		h := http.Header{strings.ToUpper(pgtidehttp.DefaultConsistencyHeader): {"primary"}, "Friend": {"yes"}}
		ask(t, newBrowser(t), "GET", i.URL+"/", h).expect(t, onPrimary, "0")
		h = http.Header{pgtidehttp.DefaultConsistencyHeader: {"PRIMARY"}, "Friend": {"yes"}}
		ask(t, newBrowser(t), "GET", i.URL+"/", h).expect(t, onReplica, "0")
		if n := i.middleware.Stat().Misread - before; n != 1 {
			t.Errorf("%d headers were counted as misread, want 1", n)
		}
	})
	// As upstream, but for what it leaves to the application: with
	// CHECK_STATE_ON_WRITE=False its later reads stay on the slave.
	t.Run("X20 a write and a read in one request", func(t *testing.T) {
		for _, method := range []string{"POST", "GET"} {
			s := ask(t, newBrowser(t), method, i.URL+"/?write=yes&id="+newID(), nil)
			s.expect(t, onPrimary, "1")
		}
	})
}

// Upstream raises for "select for update" in slave state. It writes: it goes to
// the primary, and a read-only request may refuse it.
func TestCaseOfLocksInReads(t *testing.T) {
	t.Run("X17 select for update in a request that reads", func(t *testing.T) {
		for _, tt := range []struct {
			guard  pgtide.Guard
			status int
		}{{pgtide.GuardOff, 200}, {pgtide.GuardError, 403}} {
			i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{WriteInRead: tt.guard})
			i.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				_, err := i.db.Exec(r.Context(), "select id from message for update")
				if err != nil {
					http.Error(w, err.Error(), http.StatusForbidden)
				} else if d := last(t, r.Context()); d.Role != onPrimary {
					t.Errorf("it went to a %s", d.Role)
				}
			})
			for method, want := range map[string]int{"GET": tt.status, "POST": 200} {
				if s := ask(t, newBrowser(t), method, i.URL+"/", nil); s.status != want {
					t.Errorf("%s under guard %d: status %d, want %d", method, tt.guard, s.status, want)
				}
			}
		}
	})
}
