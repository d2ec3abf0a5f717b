package pgtidehttp

import (
	"net/http"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// FuzzRequest sends a handler any cookie and token header. None may fail the
// request, be echoed, or put anything into the session that was not signed.
func FuzzRequest(f *testing.F) {
	m := newTest(f, Options{})
	low, high, write1 := newToken(f, home, 100), newToken(f, home, 200), newToken(f, home, 300)
	now := time.Now()
	for _, text := range []string{
		"", "x", "%00", `"`,
		m.keys.Sign(low, now),
		m.keys.Sign(high, now),
		m.keys.Sign(low, now) + "," + m.keys.Sign(high, now),
		m.keys.Sign(newToken(f, home, 1<<62), now.Add(-time.Hour)),
		m.keys.Sign(newToken(f, abroad, 1<<62), now),
		newKeys(f, newSecret).Sign(newToken(f, home, 1<<62), now),
	} {
		f.Add(someCookie+"="+text, "")
		f.Add("a=b; "+someCookie+"="+text+"; "+someCookie+"=x", text)
		f.Add("", text)
	}
	f.Fuzz(func(t *testing.T, cookie, header string) {
		r := get()
		r.Header["Cookie"], r.Header[m.header] = []string{cookie}, []string{header}
		reading := serve(m, r, func(_ http.ResponseWriter, r *http.Request) {
			got, ok := pgtide.TokenFrom(r.Context())
			if ok && !got.Equal(low) && !got.Equal(high) {
				t.Errorf("the session begins with %v, which was never signed for it", got)
			}
		})
		// Many good cookies are made into one.
		got, ok := sent(t, m, reading.Header)
		if reading.StatusCode != http.StatusOK || !ok && len(reading.Header) != 0 || ok && !got.Equal(low) && !got.Equal(high) {
			t.Errorf("the response is %d %v, want 200 and nothing but what the request brought", reading.StatusCode, reading.Header)
		}
		writing := serve(m, r, func(_ http.ResponseWriter, r *http.Request) { write(r.Context(), write1) })
		if got, _ := sent(t, m, writing.Header); !got.Equal(write1) {
			t.Errorf("after a write the response carries %v, want %v", got, write1)
		}
	})
}
