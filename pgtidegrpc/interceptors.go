package pgtidegrpc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/pgtide/pgtide"
)

// Interceptors carry tokens. Get them from [New]. They are safe for concurrent
// use, by any number of servers and connections.
type Interceptors struct {
	o                   Options
	received, sent, bad atomic.Int64
}

// Stat is a snapshot of what [Interceptors] have counted since they were made,
// on either side.
type Stat struct {
	// Received counts tokens that came in and were good, Sent RPCs that took one
	// along or back.
	Received, Sent int64
	// Bad counts tokens that were dropped: malformed, forged, expired, signed with
	// a key that is not accepted, or too many at once.
	Bad int64
}

// New returns Interceptors. It panics when o cannot be used: it is fixed when the
// program is written.
func New(o Options) *Interceptors {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		panic("pgtidegrpc: " + err.Error())
	}
	return &Interceptors{o: o}
}

// ServerOptions returns what [grpc.NewServer] needs to use i for all its RPCs.
// Interceptors of options before them are further out.
func (i *Interceptors) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(i.UnaryServer),
		grpc.ChainStreamInterceptor(i.StreamServer),
	}
}

// DialOptions returns what [grpc.NewClient] needs to use i for all its RPCs.
func (i *Interceptors) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(i.UnaryClient),
		grpc.WithChainStreamInterceptor(i.StreamClient),
	}
}

// Stat returns a snapshot of i's counters.
func (i *Interceptors) Stat() *Stat {
	return &Stat{Received: i.received.Load(), Sent: i.sent.Load(), Bad: i.bad.Load()}
}

// maxTokens is how many tokens of one message are looked at, so that no peer can
// make verifying expensive.
const maxTokens = 8

// receive raises the session of ctx to the good tokens among texts, and returns
// what they together ask for.
func (i *Interceptors) receive(ctx context.Context, texts []string) (sum pgtide.Token) {
	for n, text := range texts {
		if n == maxTokens {
			i.drop(ctx, fmt.Errorf("%w: more than %d in one message: the others are not looked at", pgtide.ErrBadToken, maxTokens))
			break
		}
		if text == "" {
			continue
		}
		t, err := i.o.Keys.Verify(text, time.Now(), i.o.Lifetime)
		if err != nil {
			i.drop(ctx, err)
			continue
		}
		i.received.Add(1)
		pgtide.WithToken(ctx, t) // one by one: tokens of two clusters do not merge
		sum = sum.Merge(t)
	}
	return sum
}

func (i *Interceptors) drop(ctx context.Context, err error) {
	i.bad.Add(1)
	if i.o.OnBadToken != nil {
		i.o.OnBadToken(ctx, err)
	}
}

func (i *Interceptors) sign(t pgtide.Token) string { return i.o.Keys.Sign(t, time.Now()) }
