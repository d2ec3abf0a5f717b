package pgtidehttp

import (
	"context"
	"io"
	"net/http"

	"github.com/pgtide/pgtide"
)

// Writable reports whether some node accepts writes, as last observed, so that a
// page can say beforehand that it is read-only for now. It asks no server. It is
// false where ctx does not belong to a request served through [Middleware.Wrap].
func Writable(ctx context.Context) bool {
	s := scopeOf(ctx)
	return s.w != nil && s.w.m.db.Writable()
}

// retryAfter is what a refused request is told, in seconds: about what a failover
// takes.
const retryAfter = "5"

// ReadOnlyMode returns h for requests that read, and while a node accepts writes
// for all. Meanwhile others are answered 503 with Retry-After at once: without it
// their writes would wait for a primary, at most [pgtide.Options.FailoverWait].
// Below a [Middleware] the request's intent decides, as header, route and method
// have it; else the method does.
func ReadOnlyMode(db *pgtide.DB, h http.Handler) http.Handler {
	return readOnlyMode(db.Writable, h)
}

func readOnlyMode(writable func() bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mayWrite(r) && !writable() {
			header := w.Header()
			header.Set("Retry-After", retryAfter)
			header.Set("Cache-Control", "no-store")
			header.Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "read-only for now: no primary accepts writes\n")
			return
		}
		h.ServeHTTP(w, r)
	})
}

func mayWrite(r *http.Request) bool {
	if s := scopeOf(r.Context()); s.w != nil || s.wrapped {
		return !s.reads
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "":
		return false
	}
	return true
}
