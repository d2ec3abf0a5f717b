package demo

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

// brokenStore fails each call.
type brokenStore struct{ err error }

func (s brokenStore) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, s.err
}
func (s brokenStore) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, s.err }
func (s brokenStore) QueryRow(context.Context, string, ...any) pgx.Row        { return s }
func (s brokenStore) Scan(...any) error                                       { return s.err }

// What does not reach a database, and a database that fails: the page says so,
// and nothing of what failed.
func TestBoardErrors(t *testing.T) {
	for _, test := range []struct {
		name, method, text string
		err                error
		status             int
		want               string
	}{
		{"empty", "POST", "  ", nil, http.StatusBadRequest, "1 to 200 characters"},
		{"too long", "POST", strings.Repeat("ä", 201), nil, http.StatusBadRequest, "1 to 200 characters"},
		{"no UTF-8", "POST", "\xff", nil, http.StatusBadRequest, "1 to 200 characters"},
		{"NUL", "POST", "a\x00b", nil, http.StatusBadRequest, "1 to 200 characters"},
		{"huge", "POST", strings.Repeat("a", 1<<20), nil, http.StatusBadRequest, "1 to 200 characters"},
		{"a failing write", "POST", "hi", errors.New("secret"), http.StatusServiceUnavailable, "try again later"},
		{"a write of unknown outcome", "POST", "hi", &pgtide.OutcomeUnknownError{Node: "a", Err: errors.New("secret")}, http.StatusServiceUnavailable, "Nobody knows"},
		{"a failing read", "GET", "", errors.New("secret"), http.StatusOK, "It cannot read now."},
		{"another method", "DELETE", "", nil, http.StatusMethodNotAllowed, "not allowed"},
	} {
		err := test.err
		if err == nil {
			err = errors.New("nothing should be asked but for the page")
		}
		b := &board{pgtide: brokenStore{err}, naive: func() service.Store { return brokenStore{err} }}
		r := httptest.NewRequest(test.method, "/", strings.NewReader(url.Values{"text": {test.text}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if body := w.Body.String(); w.Code != test.status || !strings.Contains(body, test.want) || strings.Contains(body, "secret") {
			t.Errorf("%s: %d %s, want %d and %q", test.name, w.Code, body, test.status, test.want)
		}
	}
}
