package pgtidehttp

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

// Transport is an [http.RoundTripper] that takes a session along to another
// service over the same cluster: a request carries the token of its context's
// session in a header, and the one that the response brings becomes a part of the
// session. Without a session in the context it does neither.
//
// The other service serves with a [Middleware] whose Options have the same Keys
// and Header. Fields must not be changed once it is used.
type Transport struct {
	// DB is the one whose cluster's tokens are carried. Required.
	DB *pgtide.DB
	// Keys sign the tokens that leave and verify those that come back. Required.
	Keys *pgtide.Keys
	// Base makes the requests. Defaults to [http.DefaultTransport].
	Base http.RoundTripper
	// Allow reports whether a request goes to a service that shares the Keys.
	// Nil means all requests made through this Transport, but for those that
	// follow a redirect away from the scheme and host first asked: give one that
	// also goes elsewhere an Allow. It is asked for each request, those that
	// follow a redirect too.
	Allow func(*http.Request) bool
	// Header defaults to [DefaultHeader].
	Header string
	// Lifetime is how old tokens that come back may be. Defaults to
	// [DefaultLifetime].
	Lifetime time.Duration

	db database // in place of DB, for tests
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	db := t.db
	if t.DB != nil {
		db = t.DB
	}
	if t.Keys == nil || db == nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errors.New("pgtidehttp: Transport: set DB and Keys")
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	ctx := r.Context()
	allow := t.Allow
	if allow == nil {
		allow = sameHost
	}
	if !pgtide.HasSession(ctx) || !allow(r) {
		return base.RoundTrip(r)
	}
	header := http.CanonicalHeaderKey(cmp.Or(t.Header, DefaultHeader))
	if token, ok := pgtide.TokenFrom(ctx); ok && token.SystemID() == db.SystemID() {
		// A RoundTripper leaves the caller's request as it was.
		r = r.Clone(ctx)
		r.Header.Set(header, t.Keys.Sign(token, time.Now()))
	}
	res, err := base.RoundTrip(r)
	if err != nil {
		return res, err
	}
	lifetime := cmp.Or(t.Lifetime, DefaultLifetime)
	for i, text := range res.Header[header] {
		if i == maxAnswers {
			break
		}
		text, wrote := strings.CutPrefix(text, wroteMark)
		token, err := t.Keys.Verify(text, time.Now(), lifetime)
		if err == nil && token.SystemID() == db.SystemID() {
			if w := scopeOf(ctx).w; wrote && w != nil {
				w.wroteElsewhere.Store(true)
			}
			pgtide.WithToken(ctx, token) // into the session that ctx has
		}
	}
	return res, nil
}

// sameHost reports whether r goes where the request went that was redirected to it,
// if one was: the other service names where a redirect leads, not the caller.
func sameHost(r *http.Request) bool {
	for from := r; from.Response != nil; {
		if from = from.Response.Request; from == nil || from.URL.Host != r.URL.Host || from.URL.Scheme != r.URL.Scheme {
			return false
		}
	}
	return true
}

// maxAnswers is how many tokens of one response are looked at.
const maxAnswers = 4
