package pgtidegrpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidegrpc"
)

func TestUnary(t *testing.T) {
	i := newInterceptors(t, pgtidegrpc.Options{})
	c := serve(t, sessions(t), i.ServerOptions(), i.DialOptions())

	ctx := sessionAt(t, 100)
	if got, err := unary(ctx, c, "look"); got != "0/64" || err != nil {
		t.Errorf("the callee's session begins at %q, %v; want 0/64", got, err)
	}
	if sent := i.Stat().Sent; sent != 1 {
		t.Errorf("%d RPCs carried a token, want 1: the callee has nothing to tell", sent)
	}
	if _, err := unary(ctx, c, "write 200"); err != nil {
		t.Error(err)
	}
	expectToken(t, ctx, newToken(t, home, 200))
	if _, err := unary(ctx, c, "fail 300"); status.Code(err) != codes.Aborted {
		t.Errorf("the call returns %v, want Aborted", err)
	}
	expectToken(t, ctx, newToken(t, home, 300))
	// The handler has sent the header: the trailer brings the token.
	var header metadata.MD
	if _, err := unary(ctx, c, "header 400", grpc.Header(&header)); err != nil || len(header["early"]) != 1 || len(header[pgtidegrpc.MetadataKey]) != 0 {
		t.Errorf("the header is %v, %v; want the handler's alone", header, err)
	}
	expectToken(t, ctx, newToken(t, home, 400))
	if stat := *i.Stat(); stat.Bad != 0 || stat.Received != 4+3 {
		t.Errorf("counted %+v, want 7 good tokens", stat)
	}

	// Another session of the same connection knows nothing of it.
	if got, err := unary(sessionAt(t, 0), c, "look"); got != "0/0" || err != nil {
		t.Errorf("another caller's session begins at %q, %v; want 0/0", got, err)
	}
	// Nor is anything sent or kept outside a session.
	before := *i.Stat()
	if _, err := unary(t.Context(), c, "write 500"); err != nil || i.Stat().Received != before.Received {
		t.Errorf("a call outside a session: %v, counted %+v, before %+v", err, *i.Stat(), before)
	}
}

// What was written is told also when an interceptor further out answers in place
// of a handler that panics.
func TestPanic(t *testing.T) {
	i := newInterceptors(t, pgtidegrpc.Options{})
	recovers := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (out any, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = status.Errorf(codes.Internal, "%v", v)
			}
		}()
		return handler(ctx, req)
	}
	c := serve(t, sessions(t), append([]grpc.ServerOption{grpc.ChainUnaryInterceptor(recovers)}, i.ServerOptions()...), i.DialOptions())
	ctx := sessionAt(t, 0)
	if _, err := unary(ctx, c, "panic 100"); status.Code(err) != codes.Internal {
		t.Errorf("the call returns %v, want Internal", err)
	}
	expectToken(t, ctx, newToken(t, home, 100))
}

func TestStreams(t *testing.T) {
	i := newInterceptors(t, pgtidegrpc.Options{})
	c := serve(t, sessions(t), i.ServerOptions(), i.DialOptions())

	t.Run("one response", func(t *testing.T) {
		ctx := sessionAt(t, 0)
		if err := input(ctx, c, "write 100"); err != nil {
			t.Fatal(err)
		}
		expectToken(t, ctx, newToken(t, home, 100))
		if err := input(ctx, c, "fail 200"); status.Code(err) != codes.Aborted {
			t.Errorf("the call returns %v, want Aborted", err)
		}
		expectToken(t, ctx, newToken(t, home, 200))
		if err := input(ctx, c, "header 300"); err != nil { // the trailer brings it
			t.Fatal(err)
		}
		expectToken(t, ctx, newToken(t, home, 300))
	})
	t.Run("both ways", func(t *testing.T) {
		ctx := sessionAt(t, 100)
		stream := open(t, ctx, c)
		if got := stream.ask("look"); got != "0/64" {
			t.Errorf("the callee's session begins at %s, want 0/64", got)
		}
		stream.ask("write 200") // the header is out
		expectToken(t, ctx, newToken(t, home, 100))
		stream.end()
		expectToken(t, ctx, newToken(t, home, 200))
	})
	t.Run("the header has what is written before the first message", func(t *testing.T) {
		ctx := sessionAt(t, 0)
		stream := open(t, ctx, c)
		stream.ask("write 100")
		expectToken(t, ctx, newToken(t, home, 100))
		stream.ask("write 200")
		stream.end()
		expectToken(t, ctx, newToken(t, home, 200))
	})
	t.Run("the handler sends the header", func(t *testing.T) {
		ctx := sessionAt(t, 0)
		stream := open(t, ctx, c)
		stream.ask("header 100")
		stream.end()
		expectToken(t, ctx, newToken(t, home, 100))
	})
	t.Run("it fails between the header and the first message", func(t *testing.T) {
		early := func(_ any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
			pgtide.WithToken(ss.Context(), newToken(t, home, 100))
			if err := ss.SendHeader(nil); err != nil {
				return err
			}
			<-ss.Context().Done()
			return ss.Context().Err()
		}
		c := serve(t, sessions(t), append(i.ServerOptions(), grpc.ChainStreamInterceptor(early)), i.DialOptions())
		ctx, cancel := context.WithCancel(sessionAt(t, 0))
		defer cancel()
		stream := open(t, ctx, c)
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("the stream ends with %v, want Canceled", err)
		}
		expectToken(t, ctx, newToken(t, home, 100))
	})
	t.Run("outside a session", func(t *testing.T) {
		stream := open(t, t.Context(), c)
		if got := stream.ask("look"); got != "0/0" {
			t.Errorf("the callee's session begins at %s, want 0/0", got)
		}
		stream.end()
	})
	if bad := i.Stat().Bad; bad != 0 {
		t.Errorf("%d tokens were bad, want none", bad)
	}
}

// A gateway without a database hands tokens on in both directions.
func TestGateway(t *testing.T) {
	i := newInterceptors(t, pgtidegrpc.Options{})
	behind := serve(t, sessions(t), i.ServerOptions(), i.DialOptions())
	gateway := &service{do: func(ctx context.Context, what string) (string, error) {
		// Gateways copy metadata, tokens of yesterday too.
		md, _ := metadata.FromIncomingContext(ctx)
		return unary(metadata.NewOutgoingContext(ctx, md), behind, what)
	}}
	c := serve(t, gateway, i.ServerOptions(), i.DialOptions())
	ctx := sessionAt(t, 100)
	if got, err := unary(ctx, c, "look"); got != "0/64" || err != nil {
		t.Errorf("the session behind begins at %q, %v; want 0/64", got, err)
	}
	if received := i.Stat().Received; received != 2 {
		t.Errorf("%d tokens were received by two services, want one by each", received)
	}
	if got, err := unary(ctx, c, "write 200"); got != "0/C8" || err != nil {
		t.Errorf("the session behind ends at %q, %v; want 0/C8", got, err)
	}
	expectToken(t, ctx, newToken(t, home, 200))
}

// Two writes at positions that are not known have the same token, and so have two
// reads of one node. The callee's may be later: the caller must hear of it.
func TestOpen(t *testing.T) {
	for name, flags := range map[string]byte{"a write": 1, "a read": 4} {
		t.Run(name, func(t *testing.T) {
			token, i := newOpen(t, flags), newInterceptors(t, pgtidegrpc.Options{})
			s := &service{do: func(ctx context.Context, what string) (string, error) {
				pgtide.WithToken(ctx, token)
				return "", nil
			}}
			c := serve(t, s, i.ServerOptions(), i.DialOptions())
			ctx := sessionAt(t, 0)
			pgtide.WithToken(ctx, token)
			if _, err := unary(ctx, c, "open"); err != nil {
				t.Fatal(err)
			}
			expectToken(t, ctx, token)
			if stat := *i.Stat(); stat.Received < 2 {
				t.Errorf("counted %+v: the caller has heard nothing", stat)
			}
		})
	}
}

func TestIncoming(t *testing.T) {
	keys, now := newKeys(t, secret), time.Now()
	sign := func(k *pgtide.Keys, cluster, lsn uint64, at time.Time) string {
		return k.Sign(newToken(t, cluster, lsn), at)
	}
	many := make([]string, 20)
	for n := range many {
		many[n] = sign(keys, home, uint64(100+n), now)
	}
	for _, tt := range []struct {
		name  string
		texts []string
		want  string // where the session begins
		bad   int64
	}{
		{"several", []string{many[0], many[2], many[1]}, "0/66", 0},
		{"empty", []string{""}, "0/0", 0},
		{"malformed", []string{"x", many[0], strings.Repeat("A", 5000)}, "0/64", 2},
		{"forged", []string{sign(newKeys(t, newSecret), home, 900, now)}, "0/0", 1},
		{"expired", []string{sign(keys, home, 900, now.Add(-2*time.Hour))}, "0/0", 1},
		{"too many", many, "0/6B", 1},
		{"two clusters", []string{many[0], sign(keys, abroad, 900, now)}, "0/64", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told int64
			i := newInterceptors(t, pgtidegrpc.Options{Keys: keys, Lifetime: time.Hour, OnBadToken: func(_ context.Context, err error) {
				if told++; !errors.Is(err, pgtide.ErrBadToken) {
					t.Errorf("OnBadToken is told %v", err)
				}
			}})
			c := serve(t, sessions(t), i.ServerOptions(), nil)
			ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{pgtidegrpc.MetadataKey: tt.texts})
			got, err := unary(ctx, c, "look")
			if err != nil || got != tt.want || i.Stat().Bad != tt.bad || told != tt.bad {
				t.Errorf("the session begins at %q, %v, %d tokens were bad and %d told; want %s and %d", got, err, i.Stat().Bad, told, tt.want, tt.bad)
			}
		})
	}
}

// A server that answers with bad tokens does not fail its callers.
func TestAnswers(t *testing.T) {
	i := newInterceptors(t, pgtidegrpc.Options{})
	forged := newKeys(t, newSecret).Sign(newToken(t, home, 900), time.Now())
	rogue := &service{do: func(ctx context.Context, _ string) (string, error) {
		grpc.SetHeader(ctx, metadata.Pairs(pgtidegrpc.MetadataKey, "x"))
		grpc.SetTrailer(ctx, metadata.Pairs(pgtidegrpc.MetadataKey, forged))
		return "", nil
	}}
	c := serve(t, rogue, nil, i.DialOptions())
	ctx := sessionAt(t, 100)
	if _, err := unary(ctx, c, "look"); err != nil {
		t.Error(err)
	}
	stream := open(t, ctx, c)
	stream.ask("look")
	stream.end()
	expectToken(t, ctx, newToken(t, home, 100))
	if bad := i.Stat().Bad; bad != 4 {
		t.Errorf("%d tokens were bad, want 2 of each RPC", bad)
	}
}

// During a rotation some services sign with the new key already.
func TestRotation(t *testing.T) {
	before := newInterceptors(t, pgtidegrpc.Options{Keys: newKeys(t, secret, newSecret)})
	after := newInterceptors(t, pgtidegrpc.Options{Keys: newKeys(t, newSecret, secret)})
	c := serve(t, sessions(t), after.ServerOptions(), before.DialOptions())
	ctx := sessionAt(t, 100)
	if got, err := unary(ctx, c, "write 50"); got != "0/64" || err != nil {
		t.Errorf("the callee's session is at %q, %v; want 0/64", got, err)
	}
	if _, err := unary(ctx, c, "write 200"); err != nil {
		t.Error(err)
	}
	expectToken(t, ctx, newToken(t, home, 200))
}

func TestNewPanics(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		options    pgtidegrpc.Options
	}{
		{"no keys", "Keys is nil", pgtidegrpc.Options{}},
		{"lifetime", "Lifetime 500ms", pgtidegrpc.Options{Keys: newKeys(t, secret), Lifetime: 500 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "pgtidegrpc: ") || !strings.Contains(got, tt.want) {
					t.Errorf("panic says %q, want it to say %q", got, tt.want)
				}
			}()
			pgtidegrpc.New(tt.options)
		})
	}
}
