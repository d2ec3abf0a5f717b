package pgtidehttp

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// A session goes to another service and comes back with what that has written.
func TestTransport(t *testing.T) {
	m := newTest(t, Options{})
	var got pgtide.Token
	server := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = pgtide.TokenFrom(r.Context())
		write(r.Context(), newToken(t, home, 300))
	})))
	defer server.Close()
	client := &http.Client{Transport: &Transport{Keys: m.keys, db: m.db}}
	ctx := pgtide.WithToken(t.Context(), newToken(t, home, 200))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	res.Body.Close()
	if !got.Equal(newToken(t, home, 200)) {
		t.Errorf("the service was asked for %v, want the session's token", got)
	}
	if back, _ := pgtide.TokenFrom(ctx); !back.Equal(newToken(t, home, 300)) {
		t.Errorf("the session asks for %v, want what the service wrote", back)
	}
	if len(r.Header) != 0 {
		t.Errorf("the caller's request now has header %v", r.Header)
	}
}

// answer is a RoundTripper that never leaves the process.
type answer func(*http.Request) *http.Response

func (f answer) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func TestTransportKeepsTokens(t *testing.T) {
	m := newTest(t, Options{})
	mine := newToken(t, home, 200)
	for _, tt := range []struct {
		name  string
		allow func(*http.Request) bool
		token pgtide.Token
		sends bool
		back  string // the token of the response
		want  pgtide.Token
	}{
		{"all are allowed", nil, mine, true, m.keys.Sign(newToken(t, home, 300), time.Now()), newToken(t, home, 300)},
		{"after a write", nil, mine, true, wroteMark + m.keys.Sign(newToken(t, home, 300), time.Now()), newToken(t, home, 300)},
		{"this one is not", func(r *http.Request) bool { return r.URL.Host != "example.com" }, mine, false, m.keys.Sign(newToken(t, home, 300), time.Now()), mine},
		{"another cluster's", nil, newToken(t, abroad, 200), false, "", newToken(t, abroad, 200)},
		{"another cluster's comes back", nil, mine, true, m.keys.Sign(newToken(t, abroad, 300), time.Now()), mine},
		{"another cluster's comes first", nil, pgtide.Token{}, false, m.keys.Sign(newToken(t, abroad, 300), time.Now()), pgtide.Token{}},
		{"forged", nil, mine, true, newKeys(t, newSecret).Sign(newToken(t, home, 300), time.Now()), mine},
		{"old", nil, mine, true, m.keys.Sign(newToken(t, home, 300), time.Now().Add(-time.Hour)), mine},
		{"nothing yet", nil, pgtide.Token{}, false, m.keys.Sign(newToken(t, home, 300), time.Now()), newToken(t, home, 300)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := false
			transport := &Transport{Keys: m.keys, db: m.db, Allow: tt.allow, Base: answer(func(r *http.Request) *http.Response {
				sent = r.Header.Get(DefaultHeader) != ""
				return &http.Response{StatusCode: 200, Header: http.Header{DefaultHeader: {tt.back}}, Body: http.NoBody}
			})}
			ctx := pgtide.WithToken(t.Context(), tt.token)
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := transport.RoundTrip(r); err != nil {
				t.Fatalf("request: %v", err)
			}
			if got, _ := pgtide.TokenFrom(ctx); sent != tt.sends || !got.Equal(tt.want) {
				t.Errorf("the token was sent: %v, and the session asks for %v; want %v and %v", sent, got, tt.sends, tt.want)
			}
		})
	}
}

// A redirect to a service that is not allowed takes nothing there.
func TestTransportRedirects(t *testing.T) {
	m := newTest(t, Options{})
	transport := &Transport{Keys: m.keys, db: m.db, Allow: func(r *http.Request) bool { return r.URL.Host == "a.test" }}
	hosts := map[string]string{}
	transport.Base = answer(func(r *http.Request) *http.Response {
		hosts[r.URL.Host] = r.Header.Get(DefaultHeader)
		res := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}
		if r.URL.Host == "a.test" {
			res.StatusCode = 302
			res.Header.Set("Location", "http://b.test/")
		}
		return res
	})
	r, err := http.NewRequestWithContext(pgtide.WithToken(t.Context(), newToken(t, home, 100)), http.MethodGet, "http://a.test", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&http.Client{Transport: transport}).Do(r); err != nil {
		t.Fatalf("request: %v", err)
	}
	if hosts["a.test"] == "" || hosts["b.test"] != "" || len(hosts) != 2 {
		t.Errorf("tokens were sent to %v, want one to a.test and none to b.test", hosts)
	}
}

// Who is told nothing of other services does not follow a redirect to one with a
// token: it would be theirs, to be used for as long as it lives.
func TestTransportRedirectsElsewhere(t *testing.T) {
	for _, tt := range []struct {
		name string
		to   []string
		want bool // of the last
	}{
		{"same host", []string{"http://a.test/2", "http://a.test/3"}, true},
		{"another host", []string{"http://b.test/"}, false},
		{"within another host", []string{"http://b.test/", "http://b.test/2"}, false},
		{"there and back", []string{"http://b.test/", "http://a.test/2"}, false},
		{"another port", []string{"http://a.test:81/"}, false},
		{"another scheme", []string{"https://a.test/"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newTest(t, Options{})
			var sent []bool
			transport := &Transport{Keys: m.keys, db: m.db, Base: answer(func(r *http.Request) *http.Response {
				sent = append(sent, r.Header.Get(DefaultHeader) != "")
				res := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}
				if len(sent) <= len(tt.to) {
					res.StatusCode = 302
					res.Header.Set("Location", tt.to[len(sent)-1])
				}
				return res
			})}
			r, err := http.NewRequestWithContext(pgtide.WithToken(t.Context(), newToken(t, home, 100)), http.MethodGet, "http://a.test", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (&http.Client{Transport: transport}).Do(r); err != nil {
				t.Fatalf("request: %v", err)
			}
			if len(sent) != len(tt.to)+1 || !sent[0] || sent[len(tt.to)] != tt.want {
				t.Errorf("tokens were sent: %v; want one first and %v at last", sent, tt.want)
			}
		})
	}
}

type closed struct {
	io.Reader
	closed bool
}

func (c *closed) Close() error { c.closed = true; return nil }

func TestTransportErrors(t *testing.T) {
	body := &closed{Reader: strings.NewReader("x")}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com", body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Transport{}).RoundTrip(r); err == nil || !strings.Contains(err.Error(), "DB and Keys") || !body.closed {
		t.Errorf("without keys the error is %v and the body closed: %v; want what to set, and true", err, body.closed)
	}
	m := newTest(t, Options{})
	gone := errors.New("gone")
	transport := &Transport{Keys: m.keys, db: m.db, Base: failing{gone}}
	r = r.WithContext(pgtide.NewSession(t.Context()))
	if _, err := transport.RoundTrip(r); err != gone {
		t.Errorf("the error is %v, want the base's own", err)
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }
