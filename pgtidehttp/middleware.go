package pgtidehttp

import (
	"net/http"
	"time"

	"github.com/pgtide/pgtide"
)

// Middleware makes a session of each request. Get one from [New]. It is safe
// for concurrent use, and one can wrap any number of handlers.
type Middleware struct {
	// cluster returns the system identifier of the cluster whose tokens are
	// carried. It is asked each time: a role may be allowed to see it later.
	cluster    func() uint64
	keys       *pgtide.Keys
	header     string
	cookie     http.Cookie // without a value
	lifetime   time.Duration
	onBadToken func(*http.Request, error)
	stat       counters
}

// New returns a Middleware that carries tokens of db's cluster. It panics when
// db is nil or o cannot be used, as [http.ServeMux.Handle] does for a bad
// pattern: both are fixed when the program is written.
func New(db *pgtide.DB, o Options) *Middleware {
	if db == nil {
		panic("pgtidehttp: db is nil: open one with pgtide.Open")
	}
	return newMiddleware(db.SystemID, o)
}

func newMiddleware(cluster func() uint64, o Options) *Middleware {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtidehttp: " + err.Error())
	}
	return &Middleware{
		cluster:    cluster,
		keys:       o.Keys,
		header:     o.Header,
		cookie:     o.cookie(),
		lifetime:   o.Lifetime,
		onBadToken: o.OnBadToken,
	}
}

// Wrap returns a handler that serves each request with next in a session of
// its own; m.Wrap fits routers that take middleware as a function. Where the
// request's context has a session already, as below another Wrap, that one
// goes on.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, carried := r.Context(), m.receive(r)
		if !pgtide.HasSession(ctx) {
			ctx = pgtide.NewSession(ctx)
		}
		ctx = pgtide.WithToken(ctx, carried)
		out := &response{out: w, m: m, ctx: ctx, carried: carried}
		// Also when next panics: a handler further out may answer in its place,
		// and what was written is written.
		defer out.finish()
		next.ServeHTTP(out, r.WithContext(ctx))
	})
}
