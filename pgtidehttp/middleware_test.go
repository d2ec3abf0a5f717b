package pgtidehttp

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

func TestNewPanics(t *testing.T) {
	keys := newKeys(t, secret)
	for _, tt := range []struct {
		name, want string
		options    Options
	}{
		{"no keys", "Keys is nil", Options{}},
		{"lifetime", "Lifetime 500ms", Options{Keys: keys, Lifetime: 500 * time.Millisecond}},
		{"negative lifetime", "Lifetime -1s", Options{Keys: keys, Lifetime: -time.Second}},
		{"header", `Header "a: b"`, Options{Keys: keys, Header: "a: b"}},
		{"cookie name", `CookieName "a;b"`, Options{Keys: keys, CookieName: "a;b"}},
		{"domain", `Domain "a b"`, Options{Keys: keys, Domain: "a b"}},
		{"host prefix and domain", "refuse", Options{Keys: keys, CookieName: "__Host-t", Domain: "example.com"}},
		{"host prefix and insecure", "refuse", Options{Keys: keys, CookieName: "__Host-t", Insecure: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "pgtidehttp: ") || !strings.Contains(got, tt.want) {
					t.Errorf("panic says %q, want it to say %q", got, tt.want)
				}
			}()
			newMiddleware(&fakeDB{}, tt.options)
		})
	}
	t.Run("no db", func(t *testing.T) {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, "db is nil") {
				t.Errorf("panic says %q, want it to say that db is nil", got)
			}
		}()
		New(nil, Options{Keys: keys})
	})
}

func TestCookieAttributes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		want    string // after the value
	}{
		{"defaults", Options{}, "; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=Lax"},
		{"set", Options{Lifetime: 90 * time.Second, Domain: "example.com", Insecure: true}, "; Path=/; Domain=example.com; Max-Age=90; HttpOnly; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newTest(t, tt.options)
			res := serve(m, get(), func(_ http.ResponseWriter, r *http.Request) { write(r.Context(), newToken(t, home, 100)) })
			if _, ok := sent(t, m, res.Header); !ok {
				t.Fatal("the response carries no token")
			}
			line := res.Header.Get("Set-Cookie")
			if value := res.Header.Get(m.header); line != m.name(value)+"="+value+tt.want {
				t.Errorf("Set-Cookie is %q, want the token and then %q", line, tt.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	m := newTest(t, Options{CookieName: "__Host-tide", Header: "x-tide"})
	text := m.keys.Sign(newToken(t, home, 100), time.Now())
	r := get()
	r.Header.Set("X-Tide", text)
	r.AddCookie(m.cookieOf(text))
	res := serve(m, r, func(_ http.ResponseWriter, r *http.Request) { write(r.Context(), newToken(t, home, 200)) })
	if got := m.Stat().Received; got != 2 {
		t.Errorf("%d tokens were received, want one in the header and one in the cookie", got)
	}
	if _, ok := sent(t, m, res.Header); !ok || res.Header.Get("X-Tide") == "" {
		t.Errorf("the response's header is %v, want a token in X-Tide", res.Header)
	}
}

func TestCacheControl(t *testing.T) {
	for _, tt := range []struct {
		name      string
		writes    bool
		set, want string
	}{
		{"a write", true, "", "private"},
		{"a write with the handler's own", true, "no-store", "no-store"},
		{"a read", false, "", ""},
		{"a read with the handler's own", false, "public, max-age=60", "public, max-age=60"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := serve(newTest(t, Options{}), get(), func(w http.ResponseWriter, r *http.Request) {
				if tt.set != "" {
					w.Header().Set("Cache-Control", tt.set)
				}
				if tt.writes {
					write(r.Context(), newToken(t, home, 100))
				}
			})
			if got := res.Header.Get("Cache-Control"); got != tt.want {
				t.Errorf("Cache-Control is %q, want %q", got, tt.want)
			}
		})
	}
}

// A middleware further out may write in its own part of the request, and a
// Wrap inside must not begin a session that has not seen it.
func TestNestedWrap(t *testing.T) {
	m := newTest(t, Options{})
	early, late := newToken(t, home, 100), newToken(t, home, 200)
	inner := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, _ := pgtide.TokenFrom(r.Context()); !got.Equal(early) {
			t.Errorf("the inner session begins with %v, want %v", got, early)
		}
		http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"})
		write(r.Context(), late)
	}))
	res := serve(m, get(), func(w http.ResponseWriter, r *http.Request) {
		write(r.Context(), early)
		inner.ServeHTTP(w, r)
	})
	if cookies := res.Cookies(); len(cookies) != 2 || cookies[0].Name != "theme" {
		t.Fatalf("cookies are %v, want the handler's and one token", cookies)
	}
	res.Header["Set-Cookie"] = res.Header["Set-Cookie"][1:]
	if got, _ := sent(t, m, res.Header); !got.Equal(late) {
		t.Errorf("the response carries %v, want %v", got, late)
	}
}

func TestSessionsAreApart(t *testing.T) {
	m := newTest(t, Options{})
	token := newToken(t, home, 100)
	wrote, leave := make(chan struct{}), make(chan struct{})
	h := m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			write(r.Context(), token)
			close(wrote)
			<-leave
		}
	}))
	writer, done := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(writer, httptest.NewRequest(http.MethodPost, "/", nil))
	}()
	<-wrote
	reader := httptest.NewRecorder()
	h.ServeHTTP(reader, get())
	close(leave)
	<-done
	if got, ok := sent(t, m, reader.Result().Header); ok {
		t.Errorf("a request beside the writing one was sent %v, want no token", got)
	}
	if got, _ := sent(t, m, writer.Result().Header); !got.Equal(token) {
		t.Errorf("the writing request was sent %v, want %v", got, token)
	}
}
