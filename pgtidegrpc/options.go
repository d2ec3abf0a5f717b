package pgtidegrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgtide/pgtide"
)

// MetadataKey is the key of tokens in requests, headers and trailers.
const MetadataKey = "pgtide-token"

// DefaultLifetime is the default of [Options.Lifetime].
const DefaultLifetime = 5 * time.Minute

// Options configure [Interceptors]. Only Keys must be set.
type Options struct {
	// Keys sign the tokens that leave and verify those that come in. Required,
	// and the same in all services that call each other.
	Keys *pgtide.Keys
	// Lifetime is how old a token may be that is accepted here, in whole seconds;
	// the clocks of the services may differ by less. Defaults to
	// [DefaultLifetime].
	Lifetime time.Duration
	// OnBadToken, if set, is called for each token that is dropped. err matches
	// [pgtide.ErrBadToken] and holds nothing of the token. Calls are made on the
	// RPC's goroutine, at most 9 for a message, and should return soon.
	OnBadToken func(ctx context.Context, err error)

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.Lifetime = cmp.Or(o.Lifetime, DefaultLifetime)
	return o
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	switch {
	case o.Keys == nil:
		return errors.New("options: Keys is nil: make keys with pgtide.NewKeys")
	case o.Lifetime < time.Second:
		return fmt.Errorf("options: Lifetime %v is less than a second", o.Lifetime)
	}
	return nil
}
