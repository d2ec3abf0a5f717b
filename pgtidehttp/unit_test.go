package pgtidehttp

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// The tests of this package need no server: a handler "writes" by raising its
// session to a token made here. Those of package pgtidehttp_test write to a
// real cluster.

const home, abroad = 7, 8 // system identifiers of two clusters

// newToken makes the token of a position on timeline 1, in the text form of
// pgtide.Token.
func newToken(t testing.TB, cluster, lsn uint64) pgtide.Token {
	t.Helper()
	b := []byte{1, 0}
	b = binary.BigEndian.AppendUint64(b, cluster)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint64(b, lsn)
	b = binary.BigEndian.AppendUint32(b, 0)
	var token pgtide.Token
	if err := token.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(b))); err != nil {
		t.Fatalf("make a token: %v", err)
	}
	return token
}

func newKeys(t testing.TB, secrets ...string) *pgtide.Keys {
	t.Helper()
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, []byte(s))
	}
	k, err := pgtide.NewKeys(keys...)
	if err != nil {
		t.Fatalf("make keys: %v", err)
	}
	return k
}

const secret, newSecret = "a secret for the tests of today", "a secret for the tests of tomorrow"

func newTest(t testing.TB, o Options) *Middleware {
	t.Helper()
	if o.Keys == nil {
		o.Keys = newKeys(t, secret)
	}
	return newMiddleware(&fakeDB{}, o)
}

// fakeDB is a cluster that is there and does nothing by itself.
type fakeDB struct {
	passed  uint64 // what all replicas have
	down    bool   // no primary accepts writes
	current func() (pgtide.Token, error)
	begin   func(pgx.TxOptions) (pgx.Tx, error)
	nodes   []pgtide.NodeStatus
}

func (f *fakeDB) SystemID() uint64          { return home }
func (f *fakeDB) HasGroup(name string) bool { return name == "analytics" }
func (f *fakeDB) Settled(t pgtide.Token) bool {
	if f.passed == 0 {
		return false
	}
	lsn, err := strconv.ParseUint(strings.TrimPrefix(t.LSN(), "0/"), 16, 64)
	return err == nil && lsn <= f.passed
}
func (f *fakeDB) Writable() bool                                             { return !f.down }
func (f *fakeDB) Nodes() []pgtide.NodeStatus                                 { return slices.Clone(f.nodes) }
func (f *fakeDB) CurrentToken(context.Context) (pgtide.Token, error)         { return f.current() }
func (f *fakeDB) BeginTx(_ context.Context, o pgx.TxOptions) (pgx.Tx, error) { return f.begin(o) }

// write does to the session what a write does.
func write(ctx context.Context, token pgtide.Token) { pgtide.WithToken(ctx, token) }

// sent returns the token that a response carries, having checked that the
// cookie and the header agree and that there is one of each.
func sent(t testing.TB, m *Middleware, h http.Header) (token pgtide.Token, ok bool) {
	t.Helper()
	headers, cookies := h.Values(m.header), slices.DeleteFunc((&http.Response{Header: h}).Cookies(), func(c *http.Cookie) bool { return c.MaxAge < 0 })
	if len(headers) == 0 && len(cookies) == 0 {
		return pgtide.Token{}, false
	}
	if len(headers) != 1 || len(cookies) != 1 || cookies[0].Value != headers[0] || cookies[0].Name != m.name(headers[0]) {
		t.Fatalf("the response has token headers %q and cookies %v, want one of each with the same text", headers, cookies)
	}
	token, err := m.keys.Verify(strings.TrimPrefix(headers[0], wroteMark), time.Now(), m.lifetime)
	if err != nil {
		t.Fatalf("the response's token does not verify: %v", err)
	}
	return token, true
}

// serve serves one request with h in m, without a network.
func serve(m *Middleware, r *http.Request, h http.HandlerFunc) *http.Response {
	w := httptest.NewRecorder()
	m.Wrap(h).ServeHTTP(w, r)
	return w.Result()
}

// cookieOf is the cookie that carries text.
func (m *Middleware) cookieOf(text string) *http.Cookie {
	return &http.Cookie{Name: m.name(text), Value: text}
}

func get() *http.Request { return httptest.NewRequest(http.MethodGet, "/", nil) }
