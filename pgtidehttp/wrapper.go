package pgtidehttp

import (
	"fmt"
	"net/http"

	"github.com/pgtide/pgtide"
)

// UsePrimary returns h with all its calls at the primary. The request counts as
// one that may write, whatever its method.
//
// This and the other wrappers hold for the handler they wrap and for nothing
// else: what is decided further out is as it was once h has returned or panicked.
// Inside one another they work as the functions of package pgtide of the same
// names do; what a header, a route or the method says gives way to any of them.
// What the session must see holds all the same. They work without a Middleware
// too.
func UsePrimary(h http.Handler) http.Handler {
	return wrapper(choice{target: toPrimary}, "wrapper UsePrimary", h)
}

// UseReplica returns h with its calls at replicas, as [pgtide.OnReplica] has it.
// The request counts as one that reads, whatever its method: see
// [Options.WriteInRead].
func UseReplica(h http.Handler) http.Handler {
	return wrapper(choice{target: toReplica}, "wrapper UseReplica", h)
}

// UseGroup returns h with its reads at replicas of the group of this name, as
// [pgtide.OnGroup] has it.
func UseGroup(name string, h http.Handler) http.Handler {
	return wrapper(choice{target: toGroup, group: name}, "wrapper UseGroup "+name, h)
}

// Use returns h with reads that see at least what c promises. It panics when c
// is none of the levels.
func Use(c pgtide.Consistency, h http.Handler) http.Handler {
	if c < pgtide.Strong || c == 0 {
		panic(fmt.Sprintf("pgtidehttp: Use: %d is none of the consistency levels", c))
	}
	return wrapper(choice{consistency: c}, "wrapper Use "+c.String(), h)
}

func wrapper(c choice, note string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		outer := scopeOf(r.Context())
		inner := &scoped{scope: *outer}
		inner.Context = inner.scope.apply(r.Context(), c, byWrapper, note)
		inner.Context = inner.scope.guard(inner.Context, outer.reads)
		h.ServeHTTP(w, r.WithContext(inner))
	})
}

// AllowWrites returns h with its writes allowed, under [Options.WriteInRead] and
// [pgtide.Options.Guard].
func AllowWrites(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(pgtide.AllowWrites(r.Context())))
	})
}

// ReadShare returns h with this share of its reads that are fit for replicas sent
// there, from 0 to 1, as [pgtide.WithReadShare] has it: a route can be ahead of the
// others in a roll-out, or behind them.
func ReadShare(share float64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(pgtide.WithReadShare(r.Context(), share)))
	})
}
