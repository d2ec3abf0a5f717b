package pgtidehttp

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

func TestBadTokens(t *testing.T) {
	keys := newKeys(t, secret)
	now := time.Now()
	good := keys.Sign(newToken(t, home, 100), now)
	forged := newKeys(t, newSecret).Sign(newToken(t, home, ^uint64(0)), now)
	flipped := "B" + good[1:]
	bad, expired, foreign := Stat{Bad: 1}, Stat{Expired: 1}, Stat{Foreign: 1}
	for _, tt := range []struct {
		name, text string
		want       Stat
	}{
		{"forged", forged, bad},
		{"changed", flipped, bad},
		{"truncated", good[:len(good)-1], bad},
		{"cut to a byte", good[:1], bad},
		{"extended", good + "A", bad},
		{"oversized", strings.Repeat("A", 16<<10), bad},
		{"not base64", "~~~~", bad},
		{"unsigned text form", unsigned(t, newToken(t, home, 100)), bad},
		{"expired", keys.Sign(newToken(t, home, 100), now.Add(-time.Hour)), expired},
		{"expired and foreign", keys.Sign(newToken(t, abroad, 100), now.Add(-time.Hour)), expired},
		{"of another cluster", keys.Sign(newToken(t, abroad, 100), now), foreign},
	} {
		for carrier, add := range carriers {
			t.Run(tt.name+" in the "+carrier, func(t *testing.T) {
				var hook []error
				m := newTest(t, Options{OnBadToken: func(_ *http.Request, err error) { hook = append(hook, err) }})
				r := get()
				add(r, tt.text)
				res := serve(m, r, func(_ http.ResponseWriter, r *http.Request) {
					if got, ok := pgtide.TokenFrom(r.Context()); ok {
						t.Errorf("the session begins with %v, want no token", got)
					}
				})
				if res.StatusCode != http.StatusOK || len(res.Header) != 0 {
					t.Errorf("the response is %d %v, want 200 and no header", res.StatusCode, res.Header)
				}
				if got := *m.Stat(); got != tt.want {
					t.Errorf("counters are %+v, want %+v", got, tt.want)
				}
				if len(hook) != 1 || !errors.Is(hook[0], pgtide.ErrBadToken) || strings.Contains(hook[0].Error(), tt.text) {
					t.Errorf("the hook was told %q, want one error that matches ErrBadToken and does not quote the token", hook)
				}
			})
			// A bad token must not cost the good one that came with it.
			for _, order := range [][2]string{{good, tt.text}, {tt.text, good}} {
				m := newTest(t, Options{})
				r := get()
				add(r, order[0])
				add(r, order[1])
				serve(m, r, func(_ http.ResponseWriter, r *http.Request) {
					if got, _ := pgtide.TokenFrom(r.Context()); !got.Equal(newToken(t, home, 100)) {
						t.Errorf("%s beside a good one in the %s: the session begins with %v, want the good one", tt.name, carrier, got)
					}
				})
			}
		}
	}
}

// someCookie is a name that a token's cookie could have.
const someCookie = DefaultCookieName + "-abcdefgh"

var carriers = map[string]func(*http.Request, string){
	"cookie": func(r *http.Request, text string) { r.AddCookie(&http.Cookie{Name: someCookie, Value: text}) },
	"header": func(r *http.Request, text string) { r.Header.Add(DefaultHeader, text) },
}

func unsigned(t *testing.T, token pgtide.Token) string {
	t.Helper()
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTokensMerge(t *testing.T) {
	m := newTest(t, Options{})
	sign := func(lsn uint64) string { return m.keys.Sign(newToken(t, home, lsn), time.Now()) }
	for _, tt := range []struct {
		name    string
		header  []string
		cookies []string
		want    uint64
	}{
		{"none", nil, nil, 0},
		{"empty ones", []string{"", " , "}, []string{""}, 0},
		{"header", []string{sign(100)}, nil, 100},
		{"cookie", nil, []string{sign(100)}, 100},
		{"quoted cookie", nil, []string{`"` + sign(100) + `"`}, 100},
		{"header is newer", []string{sign(200)}, []string{sign(100)}, 200},
		{"cookie is newer", []string{sign(100)}, []string{sign(200)}, 200},
		{"several cookies", nil, []string{sign(100), sign(300), sign(200)}, 300},
		{"several lines", []string{sign(300), sign(100)}, nil, 300},
		{"lines folded by a proxy", []string{sign(100) + ", " + sign(300)}, nil, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := *m.Stat()
			r := get()
			for _, text := range tt.header {
				r.Header.Add(DefaultHeader, text)
			}
			for _, text := range tt.cookies {
				r.Header.Add("Cookie", "a=b; "+someCookie+"="+text)
			}
			var want pgtide.Token
			if tt.want != 0 {
				want = newToken(t, home, tt.want)
			}
			res := serve(m, r, func(_ http.ResponseWriter, r *http.Request) {
				if got, _ := pgtide.TokenFrom(r.Context()); !got.Equal(want) {
					t.Errorf("the session begins with %v, want %v", got, want)
				}
			})
			if got, ok := sent(t, m, res.Header); ok {
				t.Errorf("a request that changed nothing was sent %v, want no token", got)
			}
			after := *m.Stat()
			if after.Received = before.Received; after != before {
				t.Errorf("counters went from %+v to %+v, want only Received to change", before, after)
			}
		})
	}
}

func TestTooManyTokens(t *testing.T) {
	for carrier, add := range carriers {
		t.Run(carrier, func(t *testing.T) {
			calls := 0
			m := newTest(t, Options{OnBadToken: func(*http.Request, error) { calls++ }})
			r := get()
			for lsn := range uint64(1000) {
				add(r, m.keys.Sign(newToken(t, home, lsn+1), time.Now()))
			}
			serve(m, r, func(_ http.ResponseWriter, r *http.Request) {
				if got, _ := pgtide.TokenFrom(r.Context()); !got.Equal(newToken(t, home, maxTokens)) {
					t.Errorf("the session begins with %v, want the merger of the first %d", got, maxTokens)
				}
			})
			got, want := *m.Stat(), Stat{Received: maxTokens, Bad: 1}
			if carrier == "cookie" { // which are many, and made into one
				want.Sent, want.Cleared = 1, maxCleared
			}
			if got != want || calls != 1 {
				t.Errorf("counters are %+v and the hook was called %d times, want %+v and once", got, calls, want)
			}
		})
	}
}

func TestKeyRotation(t *testing.T) {
	before := newTest(t, Options{Keys: newKeys(t, secret)})
	during := newTest(t, Options{Keys: newKeys(t, newSecret, secret)})
	after := newTest(t, Options{Keys: newKeys(t, newSecret)})

	first, second := newToken(t, home, 100), newToken(t, home, 200)
	old := before.keys.Sign(first, time.Now())
	r := get()
	r.Header.Set(DefaultHeader, old)
	res := serve(during, r, func(_ http.ResponseWriter, r *http.Request) {
		if got, _ := pgtide.TokenFrom(r.Context()); !got.Equal(first) {
			t.Errorf("with both keys a token of the old one begins the session with %v, want %v", got, first)
		}
		write(r.Context(), second)
	})
	if got, _ := sent(t, after, res.Header); !got.Equal(second) {
		t.Errorf("with both keys %v was signed with the new one, want %v", got, second)
	}
	serve(after, r, func(http.ResponseWriter, *http.Request) {})
	if got, want := *after.Stat(), (Stat{Bad: 1}); got != want {
		t.Errorf("without the old key its token counts as %+v, want %+v", got, want)
	}
}
