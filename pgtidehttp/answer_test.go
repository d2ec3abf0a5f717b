package pgtidehttp

import (
	"encoding/base64"
	"encoding/binary"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// A service's token says that it has written at a position that is not known, and
// so has the handler: the token is the same, and the caller must hear of it. A
// browser need not: it has the token.
func TestOpenTokenGoesBackToAService(t *testing.T) {
	m := newTest(t, Options{})
	b := binary.BigEndian.AppendUint64([]byte{1, 1}, home) // version 1, unplaced
	var open pgtide.Token
	if err := open.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(append(b, make([]byte, 16)...)))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		token  pgtide.Token
		cookie bool
		want   bool
	}{
		{"a service's open token", open, false, true},
		{"a service's token of a known position", newToken(t, home, 100), false, false},
		{"a browser's open token", open, true, false},
	} {
		r, text := post(), m.keys.Sign(test.token, time.Now())
		if test.cookie {
			r.AddCookie(m.cookieOf(text))
		} else {
			r.Header.Set(m.header, text)
		}
		w := httptest.NewRecorder()
		m.Wrap(writing(test.token)).ServeHTTP(w, r)
		got := w.Header().Get(m.header)
		if (got != "") != test.want || len(w.Header()["Set-Cookie"]) != 0 {
			t.Errorf("%s: the response has token %q and cookies %v, want a token: %v, and no cookie", test.name, got, w.Header()["Set-Cookie"], test.want)
		}
		if test.want && w.Header().Get("Cache-Control") != "private" {
			t.Errorf("%s: Cache-Control is %q", test.name, w.Header().Get("Cache-Control"))
		}
	}
}
