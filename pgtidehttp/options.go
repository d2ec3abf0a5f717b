package pgtidehttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

// Defaults of [Options].
const (
	DefaultCookieName        = "pgtide"
	DefaultHeader            = "X-Pgtide-Token"
	DefaultConsistencyHeader = "X-Pgtide-Consistency"
	DefaultLifetime          = 5 * time.Minute
	DefaultStoreTimeout      = 100 * time.Millisecond
)

// Options configure a [Middleware]. Only Keys must be set.
type Options struct {
	// Keys sign the tokens that leave and verify those that come in. Required,
	// and the same in all instances of an application.
	Keys *pgtide.Keys

	// CookieName begins the names of the cookies: a dash and eight characters of
	// the token follow. Defaults to [DefaultCookieName]. One that begins with
	// __Host- keeps sites on sibling domains from planting cookies; browsers
	// accept it only without Domain, Path and Insecure.
	CookieName string
	// Header is the name of the header, in requests and in responses. Defaults to
	// [DefaultHeader]. Scripts of another origin can read it once the application
	// lists it in Access-Control-Expose-Headers.
	Header string
	// Lifetime is how long a token is kept by browsers and accepted here, in
	// whole seconds. It should be longer than any replica that still serves
	// reads may lag: see [pgtide.Options.MaxStaleness]. Defaults to
	// [DefaultLifetime].
	Lifetime time.Duration
	// PinFor, if set, sends all reads of a client to the primary for this long
	// after it has written, in whole seconds and at most Lifetime. It is for
	// servers whose positions cannot be compared. A handler that asks for a
	// consistency of its own lifts it; a wrapper, header or route only with
	// [pgtide.Eventual]. Under [pgtide.Options.GuardReads] such reads meet the
	// guard. Clients whose tokens are in Store alone are not pinned.
	PinFor time.Duration

	// Domain lets subdomains of it share the cookies, as in "example.com". Empty
	// keeps them to the host that set them.
	Domain string
	// Path is below which browsers return the cookies. Defaults to "/".
	Path string
	// SameSite says on which requests from other sites browsers return them.
	// Defaults to [http.SameSiteLaxMode].
	SameSite http.SameSite
	// Insecure lets the cookies travel over plain HTTP, for development. HttpOnly
	// is always set.
	Insecure bool

	// Store, if set, keeps the tokens of clients that keep none themselves, by
	// what StoreKey returns of a request: the id of a user or a session. Empty is
	// no key. Both must be set, or none.
	Store    Store
	StoreKey func(*http.Request) string
	// StoreTimeout bounds each call of Store. Defaults to [DefaultStoreTimeout].
	StoreTimeout time.Duration

	// ReadMethods are those of requests that read only; all others may write.
	// Nil means GET, HEAD, OPTIONS and TRACE. The statement decides where it
	// goes; what the method says is for WriteInRead, Transactions and
	// WritersOnPrimary.
	ReadMethods []string
	// WritersOnPrimary sends all calls of requests that may write to the primary,
	// their reads too, unless a wrapper, a header or a route says otherwise.
	WritersOnPrimary bool
	// Routes override the method for some requests.
	Routes []Route
	// RouteName returns the router's name for the route of a request, or the
	// empty text: what [Route.Name] is compared with. It is asked before the
	// router is, so it may have to ask it, as [MuxNames] does.
	RouteName func(*http.Request) string
	// Trust reports whether a request may say in ConsistencyHeader what
	// [Route.Use] could. Nil trusts none, and the header is ignored.
	Trust func(*http.Request) bool
	// ConsistencyHeader defaults to [DefaultConsistencyHeader].
	ConsistencyHeader string
	// WriteInRead is what becomes of a write in a request that reads. With
	// [pgtide.GuardOff], the default, it goes to the primary and the rest of the
	// request sees it. [AllowWrites] lifts it, and so does a wrapper that makes
	// the request one that may write; [pgtide.Options.Guard] with it.
	WriteInRead pgtide.Guard

	// Transactions gives each request a transaction, for handlers that ask for it
	// with [Tx]. The status decides how it ends, so it must be there before the
	// wrapped handler returns: a router that answers errors behind its
	// middleware, as echo does, has to be told to answer first.
	Transactions bool
	// OnCommitError, if set, is called when such a transaction was not committed,
	// as far as anybody knows. err matches [ErrNotCommitted].
	OnCommitError func(r *http.Request, err error)

	// OnBadToken, if set, is called for each token that is dropped. err matches
	// [pgtide.ErrBadToken] and holds nothing of the token. Anybody can cause
	// calls, at most 257 per request; they are made on the request's goroutine
	// and should return soon.
	OnBadToken func(r *http.Request, err error)
	// OnStoreError, if set, is called when Store fails.
	OnStoreError func(ctx context.Context, err error)

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.CookieName = cmp.Or(o.CookieName, DefaultCookieName)
	o.Header = http.CanonicalHeaderKey(cmp.Or(o.Header, DefaultHeader))
	o.ConsistencyHeader = http.CanonicalHeaderKey(cmp.Or(o.ConsistencyHeader, DefaultConsistencyHeader))
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	o.Path = cmp.Or(o.Path, "/")
	o.SameSite = cmp.Or(o.SameSite, http.SameSiteLaxMode)
	o.StoreTimeout = cmp.Or(o.StoreTimeout, DefaultStoreTimeout)
	if o.ReadMethods == nil {
		o.ReadMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace}
	}
	return o
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	// Header names and cookie names are both tokens, in the words of RFC 9110.
	isHeader := func(name string) bool { return (&http.Cookie{Name: name}).Valid() == nil }
	cookie := o.cookie()
	switch {
	case o.Keys == nil:
		return errors.New("options: Keys is nil: make keys with pgtide.NewKeys")
	case o.Lifetime < time.Second:
		return fmt.Errorf("options: Lifetime %v is less than a second", o.Lifetime)
	case o.PinFor != 0 && (o.PinFor < time.Second || o.PinFor > o.Lifetime):
		return fmt.Errorf("options: PinFor %v is not between a second and Lifetime", o.PinFor)
	case !isHeader(o.Header):
		return fmt.Errorf("options: Header %q is not the name of a header", o.Header)
	case !isHeader(o.ConsistencyHeader):
		return fmt.Errorf("options: ConsistencyHeader %q is not the name of a header", o.ConsistencyHeader)
	case cookie.Valid() != nil:
		return fmt.Errorf("options: CookieName %q, Domain %q, Path %q: %w", o.CookieName, o.Domain, o.Path, cookie.Valid())
	case strings.HasPrefix(o.CookieName, "__Host-") && (o.Domain != "" || o.Insecure || o.Path != "/"):
		return fmt.Errorf("options: browsers refuse cookie %q with Domain, Path or Insecure", o.CookieName)
	case strings.HasPrefix(o.CookieName, "__Secure-") && o.Insecure:
		return fmt.Errorf("options: browsers refuse cookie %q with Insecure", o.CookieName)
	case o.SameSite == http.SameSiteNoneMode && o.Insecure:
		return errors.New("options: browsers refuse cookies with SameSite=None and Insecure")
	case (o.Store == nil) != (o.StoreKey == nil):
		return errors.New("options: set both Store and StoreKey, or none of them")
	case o.StoreTimeout < 0:
		return fmt.Errorf("options: StoreTimeout %v is negative", o.StoreTimeout)
	case o.WriteInRead > pgtide.GuardError:
		return fmt.Errorf("options: WriteInRead %d is none of the guards", o.WriteInRead)
	}
	for _, method := range o.ReadMethods {
		if method != strings.ToUpper(method) {
			return fmt.Errorf("options: ReadMethods has %q, which never matches: methods are upper case", method)
		}
	}
	for _, route := range o.Routes {
		if route.Name != "" && o.RouteName == nil {
			return fmt.Errorf("options: route %q is never found by name: set RouteName", route.Name)
		}
	}
	return nil
}

// cookie returns the cookie that carries tokens, without one.
func (o Options) cookie() http.Cookie {
	return http.Cookie{
		Name:     o.CookieName,
		Path:     o.Path,
		Domain:   o.Domain,
		MaxAge:   int(o.Lifetime / time.Second),
		Secure:   !o.Insecure,
		HttpOnly: true,
		SameSite: o.SameSite,
	}
}

// MuxNames returns a function for [Options.RouteName] that calls a route by its
// pattern in mux, as [http.Request.Pattern] does behind it.
func MuxNames(mux *http.ServeMux) func(*http.Request) string {
	return func(r *http.Request) string {
		_, pattern := mux.Handler(r)
		return pattern
	}
}
