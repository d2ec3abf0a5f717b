package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/pgtide/pgtide"
)

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // the content type says that it is none
	if err := enc.Encode(v); err != nil {
		panic(err) // only values of this package's types come here
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// detail answers with an error that concerns no field.
func detail(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"detail": text})
}

func notFound(w http.ResponseWriter) { detail(w, http.StatusNotFound, "Not found.") }

// explain says what a client should know of err: whether the service may be
// asked again, and whether a write may have been done.
func explain(err error) (status int, text string) {
	switch {
	case errors.Is(err, pgtide.ErrOutcomeUnknown):
		return http.StatusServiceUnavailable, "Nobody knows whether this was done: look before sending it again."
	case errors.Is(err, pgtide.ErrNoPrimary), errors.Is(err, pgtide.ErrSplitBrain), errors.Is(err, pgtide.ErrNoFreshReplica):
		return http.StatusServiceUnavailable, "The database does not take this now: try again later."
	}
	return http.StatusInternalServerError, "A server error occurred."
}
