package pgtideredis

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
)

// Defaults of [Options].
const (
	DefaultPrefix  = "pgtide:"
	DefaultTimeout = 200 * time.Millisecond
)

// Options configure a [Store]. Only Client must be set.
type Options struct {
	// Client is how the store reaches Redis: a client of one server, of a cluster
	// or behind sentinels. It must have ContextTimeoutEnabled set, or else would
	// keep to its own timeouts of seconds, and must not read at replicas. It
	// stays the caller's, who closes it.
	Client redis.UniversalClient

	// Prefix begins the name of each key in Redis. Defaults to [DefaultPrefix].
	Prefix string
	// Timeout bounds each Load and Raise, on top of the caller's context.
	// Defaults to [DefaultTimeout].
	Timeout time.Duration

	// Keys, if set, sign what is stored and verify what is found. All instances
	// need the same; to rotate them see [pgtide.NewKeys].
	Keys *pgtide.Keys

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.Prefix = cmp.Or(o.Prefix, DefaultPrefix)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	return o
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	if o.Client == nil {
		return errors.New("options: Client is nil: make one with redis.NewUniversalClient")
	}
	if o.Timeout < 0 {
		return fmt.Errorf("options: Timeout %v is negative", o.Timeout)
	}
	obeys, astray := true, false
	switch c := o.Client.(type) {
	case *redis.Client:
		obeys = c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		obeys = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		obeys, astray = c.Options().ContextTimeoutEnabled, c.Options().ReadOnly
	}
	switch {
	case !obeys:
		return errors.New("options: Client ignores deadlines: set ContextTimeoutEnabled in its options")
	case astray:
		return errors.New("options: Client reads at replicas of Redis, which lag: unset ReadOnly and RouteBy... in its options")
	}
	return nil
}
