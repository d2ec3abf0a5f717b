package pgtidehttp

import (
	"net/http"
	"testing"
	"time"
)

// discard is the cheapest ResponseWriter there can be.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func BenchmarkWrap(b *testing.B) {
	m := newTest(b, Options{})
	token := newToken(b, home, 100)
	routed := newTest(b, Options{Routes: []Route{{Pattern: "/admin/*", Use: "primary"}, {Pattern: "POST /events", Use: "replica"}}})
	read := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	wrote := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write(r.Context(), token)
		w.WriteHeader(http.StatusOK)
	})
	without, with := get(), get()
	with.AddCookie(m.cookieOf(m.keys.Sign(newToken(b, home, 50), time.Now())))
	for _, bm := range []struct {
		name    string
		handler http.Handler
		request *http.Request
	}{
		{"unwrapped", read, without},
		{"no cookie", m.Wrap(read), without},
		{"cookie", m.Wrap(read), with},
		{"write", m.Wrap(wrote), without},
		{"routes", routed.Wrap(read), without},
	} {
		b.Run(bm.name, func(b *testing.B) {
			w := &discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				bm.handler.ServeHTTP(w, bm.request)
			}
		})
	}
}
