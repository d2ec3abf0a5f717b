package pgtideconnect

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/pgtide/pgtide"
)

// Interceptor carries tokens. Get one from [New]. It is safe for concurrent use,
// by any number of handlers and clients.
type Interceptor struct {
	o                   Options
	received, sent, bad atomic.Int64
}

var _ connect.Interceptor = (*Interceptor)(nil)

// Stat is a snapshot of what an [Interceptor] has counted since it was made, on
// either side.
type Stat struct {
	// Received counts tokens that came in and were good, Sent RPCs that took one
	// along or back.
	Received, Sent int64
	// Bad counts tokens that were dropped: malformed, forged, expired, signed with
	// a key that is not accepted, or too many at once.
	Bad int64
}

// New returns an Interceptor. It panics when o cannot be used: it is fixed when
// the program is written.
func New(o Options) *Interceptor {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtideconnect: " + err.Error())
	}
	return &Interceptor{o: o}
}

// Stat returns a snapshot of i's counters.
func (i *Interceptor) Stat() *Stat {
	return &Stat{Received: i.received.Load(), Sent: i.sent.Load(), Bad: i.bad.Load()}
}

// WrapUnary implements [connect.Interceptor].
func (i *Interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return i.call(ctx, req, next)
		}
		return i.serve(ctx, req, next)
	}
}

// maxTokens is how many tokens of one message are looked at, so that no peer can
// make verifying expensive.
const maxTokens = 8

// receive raises the session of ctx to the good tokens in headers, and returns
// what they together ask for.
func (i *Interceptor) receive(ctx context.Context, headers ...http.Header) (sum pgtide.Token) {
	n, last := 0, ""
	for _, h := range headers {
		for _, line := range h[Header] {
			// Proxies may fold lines into one, with commas.
			for text := range strings.SplitSeq(line, ",") {
				if text = strings.TrimSpace(text); text == "" || text == last {
					continue // header, trailer and error mostly hold the same
				}
				if n++; n > maxTokens {
					i.drop(ctx, fmt.Errorf("%w: more than %d in one message: the others are not looked at", pgtide.ErrBadToken, maxTokens))
					return sum
				}
				last = text
				sum = sum.Merge(i.adopt(ctx, text))
			}
		}
	}
	return sum
}

// adopt raises the session of ctx to the token that text stands for, and returns
// it; it is the zero Token when it is dropped.
func (i *Interceptor) adopt(ctx context.Context, text string) pgtide.Token {
	t, err := i.o.Keys.Verify(text, time.Now(), i.o.Lifetime)
	if err != nil {
		i.drop(ctx, err)
		return pgtide.Token{}
	}
	i.received.Add(1)
	pgtide.WithToken(ctx, t) // one by one: tokens of two clusters do not merge
	return t
}

func (i *Interceptor) drop(ctx context.Context, err error) {
	i.bad.Add(1)
	if i.o.OnBadToken != nil {
		i.o.OnBadToken(ctx, err)
	}
}

func (i *Interceptor) sign(t pgtide.Token) string { return i.o.Keys.Sign(t, time.Now()) }
