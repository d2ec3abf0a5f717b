// Package service is the demo service: an HTTP API of messages, written as if
// there were one database.
//
//	POST   /api/v1/message       {"text": "hi"}   201 {"id": "..."}
//	GET    /api/v1/message       ?limit=&offset=  200 {"results": [...], "next": "..."}
//	GET    /api/v1/message/{id}                   200 {"id", "created_at", "updated_at", "text"}
//	PUT    /api/v1/message/{id}  {"text": "hi"}   200, the message as it is now
//	DELETE /api/v1/message/{id}                   204
//
// A trailing slash makes no difference. Every error is a JSON object: by field
// for what a field holds, {"detail": "..."} otherwise.
//
// The service knows nothing of replicas. Its [Store] does, so that the same
// service shows what one router does to it and another does not.
package service

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Path is where the messages are.
const Path = "/api/v1/message"

// Store is the database of a service: a [pgtide.DB], a pgx pool or anything
// else with these of their methods. It must be safe for concurrent use.
type Store interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// New returns the service over a store that [Migrate] has prepared. What goes
// wrong inside is answered with a 5xx status and logged to [slog.Default].
func New(store Store) http.Handler {
	s := &service{store: store}
	mux := http.NewServeMux()
	handle := func(path string, m methods) {
		mux.Handle(path, m)
		mux.Handle(path+"/{$}", m)
	}
	handle(Path, methods{http.MethodGet: s.list, http.MethodPost: s.create})
	handle(Path+"/{id}", methods{http.MethodGet: byID(s.get), http.MethodPut: byID(s.replace), http.MethodDelete: byID(s.delete)})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { notFound(w) })
	return mux
}

type service struct{ store Store }

// methods serves one path. A GET handler serves HEAD too.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h, ok := m[method]; ok {
		h(w, r)
		return
	}
	w.Header().Set("Allow", m.allow())
	if method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	detail(w, http.StatusMethodNotAllowed, `Method "`+r.Method+`" not allowed.`)
}

func (m methods) allow() string {
	names := []string{http.MethodHead, http.MethodOptions}
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// byID answers requests whose id cannot be one, which the database would take
// for an error.
func byID(h func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if !isUUID(id) {
			notFound(w)
			return
		}
		h(w, r, id)
	}
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// fail answers a request whose store failed.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil { // else the client has left: nothing is wrong here
		slog.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	status, text := explain(err)
	detail(w, status, text)
}
