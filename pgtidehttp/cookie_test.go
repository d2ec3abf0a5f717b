package pgtidehttp

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// jar is a browser's: it applies the Set-Cookie lines of responses in the order
// they come.
type jar struct {
	http.CookieJar
	url *url.URL
}

func newJar(t *testing.T) *jar {
	t.Helper()
	j, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &jar{j, &url.URL{Scheme: "https", Host: "example.com", Path: "/"}}
}

func (j *jar) request() *http.Request {
	r := get()
	for _, c := range j.Cookies(j.url) {
		r.AddCookie(c)
	}
	return r
}

func (j *jar) response(res *http.Response) { j.SetCookies(j.url, res.Cookies()) }

// asks returns what the browser's next request asks for.
func (j *jar) asks(t *testing.T, m *Middleware) (token pgtide.Token) {
	t.Helper()
	serve(m, j.request(), func(_ http.ResponseWriter, r *http.Request) { token, _ = pgtide.TokenFrom(r.Context()) })
	return token
}

func writing(token pgtide.Token) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { write(r.Context(), token) }
}

func reading(http.ResponseWriter, *http.Request) {}

// Two requests at once, of which the response with the older token comes last:
// with one cookie for both, the younger token would be lost.
func TestResponsesOutOfOrder(t *testing.T) {
	m, j := newTest(t, Options{}), newJar(t)
	j.response(serve(m, j.request(), writing(newToken(t, home, 100))))
	first, second := j.request(), j.request()
	old := serve(m, first, writing(newToken(t, home, 200)))
	young := serve(m, second, writing(newToken(t, home, 300)))
	j.response(young)
	j.response(old)
	if got := j.asks(t, m); !got.Equal(newToken(t, home, 300)) {
		t.Errorf("the next request asks for %v, want the younger of the two", got)
	}
	if n := len(j.Cookies(j.url)); n != 2 {
		t.Errorf("the browser keeps %d cookies, want one of each response", n)
	}
	j.response(serve(m, j.request(), writing(newToken(t, home, 400))))
	if got, n := j.asks(t, m), len(j.Cookies(j.url)); n != 1 || !got.Equal(newToken(t, home, 400)) {
		t.Errorf("after one more write the browser keeps %d cookies that ask for %v, want one for all", n, got)
	}
}

func TestSettledCookiesAreCleared(t *testing.T) {
	m, j := newTest(t, Options{}), newJar(t)
	db := m.db.(*fakeDB)
	j.response(serve(m, j.request(), writing(newToken(t, home, 100))))
	db.passed = 99
	if res := serve(m, j.request(), reading); len(res.Header) != 0 {
		t.Errorf("while a replica lacks the token a read is sent %v, want nothing", res.Header)
	}
	db.passed = 100
	mine := j.request()
	// Beside the request that finds it settled another one writes.
	other := serve(m, j.request(), writing(newToken(t, home, 200)))
	res := serve(m, mine, reading)
	if got := res.Header; len(got) != 1 || len(got["Set-Cookie"]) != 1 || res.Header.Get(m.header) != "" {
		t.Errorf("once all have passed the token a read is sent %v, want only the cookie's end", got)
	}
	j.response(other)
	j.response(res)
	if got, n := j.asks(t, m), len(j.Cookies(j.url)); n != 1 || !got.Equal(newToken(t, home, 200)) {
		t.Errorf("the browser keeps %d cookies that ask for %v, want the other request's alone", n, got)
	}
	db.passed = 200
	j.response(serve(m, j.request(), reading))
	if n := len(j.Cookies(j.url)); n != 0 {
		t.Errorf("the browser keeps %d cookies, want none: all is settled", n)
	}
}

// A browser that made many requests at once gets rid of their cookies by and by,
// and no response is long for it.
func TestManyCookies(t *testing.T) {
	m, j := newTest(t, Options{}), newJar(t)
	empty := j.request()
	for i := range 90 {
		r := empty.Clone(t.Context())
		j.response(serve(m, r, writing(newToken(t, home, uint64(100+i)))))
	}
	if n := len(j.Cookies(j.url)); n != 90 {
		t.Fatalf("the browser keeps %d cookies, want 90", n)
	}
	for turn := range 10 {
		res := serve(m, j.request(), reading)
		if n := len(res.Header["Set-Cookie"]); n > maxCleared+1 {
			t.Errorf("response %d has %d cookies, want at most %d", turn, n, maxCleared+1)
		}
		names := map[string]bool{}
		for _, c := range res.Cookies() {
			if names[c.Name] {
				t.Errorf("response %d sets and clears cookie %q", turn, c.Name)
			}
			names[c.Name] = true
		}
		j.response(res)
		if got := j.asks(t, m); !got.Equal(newToken(t, home, 189)) {
			t.Fatalf("after response %d the browser asks for %v, want the youngest token", turn, got)
		}
	}
	if n := len(j.Cookies(j.url)); n > manyCookies {
		t.Errorf("after 10 responses the browser keeps %d cookies, want at most %d", n, manyCookies)
	}
}

// What does not verify is not taken back: another instance may know its key.
func TestUnknownCookiesAreLeft(t *testing.T) {
	m := newTest(t, Options{})
	unknown := newTest(t, Options{Keys: newKeys(t, newSecret)})
	r := get()
	r.AddCookie(unknown.cookieOf(unknown.keys.Sign(newToken(t, home, 100), time.Now())))
	r.AddCookie(&http.Cookie{Name: DefaultCookieName + "-theme", Value: "dark"})
	for _, h := range []http.HandlerFunc{reading, writing(newToken(t, home, 200))} {
		for _, c := range serve(m, r, h).Cookies() {
			if c.MaxAge < 0 {
				t.Errorf("cookie %q is taken back, want it left alone", c.Name)
			}
		}
	}
}

// A Wrap further out leaves the cookies alone that one further in has set for
// another cluster, or for a session that a handler between them has begun.
func TestCookiesOfAnotherWrap(t *testing.T) {
	outer := newTest(t, Options{})
	inner := newTest(t, Options{})
	inner.db = otherDB{inner.db}
	between := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(pgtide.NewSession(r.Context())))
		})
	}
	for _, tt := range []struct {
		name  string
		inner func(http.Handler) http.Handler
		wrote pgtide.Token
	}{
		{"two clusters", func(h http.Handler) http.Handler { return between(inner.Wrap(h)) }, newToken(t, abroad, 50)},
		{"two sessions", func(h http.Handler) http.Handler { return between(outer.Wrap(h)) }, newToken(t, home, 500)},
	} {
		for _, too := range []bool{false, true} { // the outer session has written too
			outer.db.(*fakeDB).passed = 100
			r := post()
			r.AddCookie(outer.cookieOf(outer.keys.Sign(newToken(t, home, 100), time.Now())))
			w := httptest.NewRecorder()
			outer.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if too {
					write(r.Context(), newToken(t, home, 200))
				}
				tt.inner(writing(tt.wrote)).ServeHTTP(w, r)
			})).ServeHTTP(w, r)
			found := false
			for _, c := range w.Result().Cookies() {
				token, err := outer.keys.Verify(c.Value, time.Now(), 0)
				found = found || err == nil && token.Equal(tt.wrote)
			}
			if !found {
				t.Errorf("%s, both written: %v: the response sets %v, want one for what was written further in", tt.name, too, w.Result().Cookies())
			}
		}
	}
}

// otherDB is of another cluster.
type otherDB struct{ database }

func (otherDB) SystemID() uint64 { return abroad }

func TestPin(t *testing.T) {
	m, j := newTest(t, Options{PinFor: 5 * time.Second}), newJar(t)
	pinned := func(r *http.Request) (is bool) {
		serve(m, r, func(_ http.ResponseWriter, r *http.Request) { is = scopeOf(r.Context()).pinned })
		return is
	}
	if pinned(j.request()) {
		t.Error("a client that has not written is pinned")
	}
	res := serve(m, j.request(), writing(newToken(t, home, 100)))
	j.response(res)
	if !pinned(j.request()) {
		t.Error("a browser that has written is not pinned")
	}
	r := get()
	r.Header.Set(m.header, res.Header.Get(m.header))
	if !pinned(r) {
		t.Error("an API client that has written is not pinned")
	}
	// Every replica may have passed the token: the pin is for those that lie.
	m.db.(*fakeDB).passed = 1000
	j.response(serve(m, j.request(), reading))
	if !pinned(j.request()) {
		t.Error("the pin was taken back with the token")
	}
	if got := m.Stat().Pinned; got != 4 {
		t.Errorf("%d requests are counted pinned, want 4", got)
	}

	old := get()
	text := m.keys.Sign(newToken(t, home, 100), time.Now().Add(-7*time.Second))
	old.AddCookie(&http.Cookie{Name: m.name(text), Value: wroteMark + text})
	if pinned(old) {
		t.Error("a browser that wrote 7s ago is pinned for 5s")
	}
	bare := get()
	bare.AddCookie(m.cookieOf(m.keys.Sign(newToken(t, home, 100), time.Now())))
	if pinned(bare) {
		t.Error("a token that a read has moved pins")
	}
}

// Of two responses at once with the same token, the one to a request that only read
// does not lift the pin of the one that wrote, whichever comes last.
func TestPinOutOfOrder(t *testing.T) {
	m := newTest(t, Options{PinFor: 5 * time.Second})
	token := newToken(t, home, 100)
	out := func(wrote bool) *http.Response {
		w := httptest.NewRecorder()
		out := &response{out: w, m: m, request: get()}
		out.set(token, wrote)
		return w.Result()
	}
	for range 3 { // the clock's second may change between the two
		j := newJar(t)
		j.response(out(true))
		j.response(out(false))
		is := false
		serve(m, j.request(), func(_ http.ResponseWriter, r *http.Request) { is = scopeOf(r.Context()).pinned })
		if !is {
			t.Error("a browser that has written is not pinned")
		}
	}
}

func TestCookieOptions(t *testing.T) {
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{Path: "/shop", SameSite: http.SameSiteStrictMode}, "; Path=/shop; Max-Age=300; HttpOnly; Secure; SameSite=Strict"},
		{Options{SameSite: http.SameSiteNoneMode}, "; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=None"},
	} {
		m := newTest(t, tt.options)
		res := serve(m, get(), writing(newToken(t, home, 100)))
		line := res.Header.Get("Set-Cookie")
		if !strings.HasSuffix(line, tt.want) {
			t.Errorf("Set-Cookie is %q, want it to end in %q", line, tt.want)
		}
		r := get()
		name, value, _ := strings.Cut(line[:strings.Index(line, ";")], "=")
		r.AddCookie(&http.Cookie{Name: name, Value: value})
		m.db.(*fakeDB).passed = 100
		// A browser takes a cookie for the same only with the same path and domain.
		want := name + "=" + strings.Replace(tt.want, "Max-Age=300", "Max-Age=0", 1)
		if got := serve(m, r, reading).Header["Set-Cookie"]; !slices.Equal(got, []string{want}) {
			t.Errorf("it is taken back by %q, want %q", got, want)
		}
	}
}

// Keys that New cannot tell from good ones sign nothing: the request goes on.
func TestKeysWithoutKeys(t *testing.T) {
	m := newTest(t, Options{Keys: &pgtide.Keys{}})
	if res := serve(m, get(), writing(newToken(t, home, 100))); res.StatusCode != 200 || len(res.Header) != 0 {
		t.Errorf("the response is %d %v, want 200 and no header", res.StatusCode, res.Header)
	}
}

// One client sends 10,000 tokens: good ones, and others. Each request is served,
// all the same as without them, and each token is counted.
func TestTokenFlood(t *testing.T) {
	m := newTest(t, Options{})
	h := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := pgtide.TokenFrom(r.Context()); ok && !token.Equal(newToken(t, home, 100)) {
			t.Errorf("the session begins with %v", token)
		}
	}))
	texts := []string{
		m.keys.Sign(newToken(t, home, 100), time.Now()),
		newKeys(t, newSecret).Sign(newToken(t, home, 1<<60), time.Now()),
		m.keys.Sign(newToken(t, abroad, 1<<60), time.Now()),
		m.keys.Sign(newToken(t, home, 1<<60), time.Now().Add(-time.Hour)),
	}
	const each = 2500
	for i := range each * len(texts) {
		r := get()
		text := texts[i%len(texts)]
		r.AddCookie(&http.Cookie{Name: fmt.Sprintf("%s-%08d", DefaultCookieName, i), Value: text})
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 200 || len(w.Header()) != 0 {
			t.Fatalf("request %d is answered %d %v, want 200 and no header", i, w.Code, w.Header())
		}
	}
	if got, want := *m.Stat(), (Stat{Received: each, Bad: each, Foreign: each, Expired: each}); got != want {
		t.Errorf("counters are %+v, want %+v", got, want)
	}
}
