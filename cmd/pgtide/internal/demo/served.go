package demo

import (
	"context"
	"net/http"
	"sync"

	"github.com/pgtide/pgtide"
)

// The headers that say where a response's data is from.
const (
	headerNode   = "X-Served-By"
	headerRole   = "X-Served-Role"
	headerReason = "X-Served-Reason"
)

// witness remembers the last decision made with its context.
type witness struct {
	mu   sync.Mutex // guards last
	last pgtide.Decision
}

type witnessKey struct{}

func withWitness(ctx context.Context) (context.Context, *witness) {
	w := &witness{}
	return context.WithValue(ctx, witnessKey{}, w), w
}

// noteServed tells the witness of ctx, if there is one. It is a hook of pgtide,
// and the naive router calls it too.
func noteServed(ctx context.Context, d pgtide.Decision) context.Context {
	if w, ok := ctx.Value(witnessKey{}).(*witness); ok {
		w.mu.Lock()
		w.last = d
		w.mu.Unlock()
	}
	return ctx
}

func (w *witness) decision() pgtide.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// showServed puts the node that served a request into its response.
func showServed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, witness := withWitness(r.Context())
		next.ServeHTTP(&servedWriter{ResponseWriter: w, witness: witness}, r.WithContext(ctx))
	})
}

type servedWriter struct {
	http.ResponseWriter
	witness *witness
	shown   bool
}

func (w *servedWriter) WriteHeader(status int) {
	w.show()
	w.ResponseWriter.WriteHeader(status)
}

func (w *servedWriter) Write(p []byte) (int, error) {
	w.show()
	return w.ResponseWriter.Write(p)
}

func (w *servedWriter) show() {
	d := w.witness.decision()
	if w.shown || d.Node == "" {
		return
	}
	w.shown = true
	h := w.Header()
	h.Set(headerNode, d.Node)
	h.Set(headerRole, string(d.Role))
	h.Set(headerReason, string(d.Reason))
}

// Unwrap is for http.ResponseController.
func (w *servedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
