package pgtidehttp

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

// Defaults of [Options].
const (
	DefaultCookieName = "pgtide"
	DefaultHeader     = "X-Pgtide-Token"
	DefaultLifetime   = 5 * time.Minute
)

// Options configure a [Middleware]. Only Keys must be set.
type Options struct {
	// Keys sign the tokens that leave and verify those that come in. Required,
	// and the same in all instances of an application.
	Keys *pgtide.Keys

	// CookieName is the name of the cookie. Defaults to [DefaultCookieName]. One
	// that begins with __Host- keeps sites on sibling domains from planting
	// cookies of the same name; browsers accept it only without Domain and
	// Insecure.
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

	// Domain lets subdomains of it share the cookie, as in "example.com". Empty
	// keeps the cookie to the host that set it.
	Domain string
	// Insecure lets the cookie travel over plain HTTP, for development. Path=/,
	// HttpOnly and SameSite=Lax are always set.
	Insecure bool

	// OnBadToken, if set, is called for each token that is dropped. err matches
	// [pgtide.ErrBadToken] and holds nothing of the token. Anybody can cause
	// calls, at most 9 per request; they are made on the request's goroutine and
	// should return soon.
	OnBadToken func(r *http.Request, err error)

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.CookieName = cmp.Or(o.CookieName, DefaultCookieName)
	o.Header = http.CanonicalHeaderKey(cmp.Or(o.Header, DefaultHeader))
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	return o
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	// Header names and cookie names are both tokens, in the words of RFC 9110.
	header := http.Cookie{Name: o.Header}
	cookie := o.cookie()
	switch {
	case o.Keys == nil:
		return errors.New("options: Keys is nil: make keys with pgtide.NewKeys")
	case o.Lifetime < time.Second:
		return fmt.Errorf("options: Lifetime %v is less than a second", o.Lifetime)
	case header.Valid() != nil:
		return fmt.Errorf("options: Header %q is not the name of a header", o.Header)
	case cookie.Valid() != nil:
		return fmt.Errorf("options: CookieName %q, Domain %q: %w", o.CookieName, o.Domain, cookie.Valid())
	case strings.HasPrefix(o.CookieName, "__Host-") && (o.Domain != "" || o.Insecure):
		return fmt.Errorf("options: browsers refuse cookie %q with Domain or Insecure", o.CookieName)
	}
	return nil
}

// cookie returns the cookie that carries tokens, without one.
func (o Options) cookie() http.Cookie {
	return http.Cookie{
		Name:     o.CookieName,
		Path:     "/",
		Domain:   o.Domain,
		MaxAge:   int(o.Lifetime / time.Second),
		Secure:   !o.Insecure,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
}
