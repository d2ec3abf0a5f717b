package pgtideconnect_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideconnect"
)

func TestUnary(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			i := newInterceptor(t, pgtideconnect.Options{})
			c := serve(t, sessions(t), with(i), protocol, connect.WithInterceptors(i))

			ctx := sessionAt(t, 100)
			if got, err := c.ask(ctx, "look"); got != "0/64" || err != nil {
				t.Errorf("the callee's session begins at %q, %v; want 0/64", got, err)
			}
			if sent := i.Stat().Sent; sent != 1 {
				t.Errorf("%d RPCs carried a token, want 1: the callee has nothing to tell", sent)
			}
			if _, err := c.ask(ctx, "write 200"); err != nil {
				t.Error(err)
			}
			expectToken(t, ctx, newToken(t, home, 200))
			if _, err := c.ask(ctx, "fail 300"); connect.CodeOf(err) != connect.CodeAborted {
				t.Errorf("the call returns %v, want aborted", err)
			}
			expectToken(t, ctx, newToken(t, home, 300))
			if len(errShared.Meta()) != 0 {
				t.Errorf("the handler's error now has %v: other calls return it too", errShared.Meta())
			}
			if stat := *i.Stat(); stat.Bad != 0 || stat.Received != 3+2 {
				t.Errorf("counted %+v, want 5 good tokens", stat)
			}

			// Another session of the same client knows nothing of it.
			if got, err := c.ask(sessionAt(t, 0), "look"); got != "0/0" || err != nil {
				t.Errorf("another caller's session begins at %q, %v; want 0/0", got, err)
			}
			// Nor is anything sent or kept outside a session.
			before := *i.Stat()
			if _, err := c.ask(t.Context(), "write 500"); err != nil || i.Stat().Received != before.Received {
				t.Errorf("a call outside a session: %v, counted %+v, before %+v", err, *i.Stat(), before)
			}
		})
	}
}

// What was written is told also when somebody further out answers in place of a
// handler that panics.
func TestPanic(t *testing.T) {
	i := newInterceptor(t, pgtideconnect.Options{})
	recovers := connect.WithRecover(func(_ context.Context, _ connect.Spec, _ http.Header, v any) error {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("%v", v))
	})
	c := serve(t, sessions(t), append([]connect.HandlerOption{recovers}, with(i)...), connect.WithInterceptors(i))
	ctx := sessionAt(t, 0)
	if _, err := c.ask(ctx, "panic 100"); connect.CodeOf(err) != connect.CodeInternal {
		t.Errorf("the call returns %v, want internal", err)
	}
	expectToken(t, ctx, newToken(t, home, 100))
}

func TestStreams(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			i := newInterceptor(t, pgtideconnect.Options{})
			c := serve(t, sessions(t), with(i), protocol, connect.WithInterceptors(i))

			t.Run("one response", func(t *testing.T) {
				ctx := sessionAt(t, 50)
				if got, err := c.put(ctx, "look"); got != "0/32" || err != nil {
					t.Errorf("the callee's session begins at %q, %v; want 0/32", got, err)
				}
				if _, err := c.put(ctx, "write 100"); err != nil {
					t.Error(err)
				}
				expectToken(t, ctx, newToken(t, home, 100))
				if _, err := c.put(ctx, "fail 200"); connect.CodeOf(err) != connect.CodeAborted {
					t.Errorf("the call returns %v, want aborted", err)
				}
				expectToken(t, ctx, newToken(t, home, 200))
			})
			t.Run("both ways", func(t *testing.T) {
				ctx := sessionAt(t, 100)
				stream := c.open(t, ctx)
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
				stream := c.open(t, ctx)
				stream.ask("write 100")
				expectToken(t, ctx, newToken(t, home, 100))
				stream.ask("write 200")
				stream.end()
				expectToken(t, ctx, newToken(t, home, 200))
			})
			t.Run("outside a session", func(t *testing.T) {
				stream := c.open(t, t.Context())
				if got := stream.ask("look"); got != "0/0" {
					t.Errorf("the callee's session begins at %s, want 0/0", got)
				}
				stream.end()
			})
			if bad := i.Stat().Bad; bad != 0 {
				t.Errorf("%d tokens were bad, want none", bad)
			}
		})
	}
}

// A program may use a request again, for another session: it takes nothing along.
func TestRequestUsedAgain(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			i := newInterceptor(t, pgtideconnect.Options{})
			c := serve(t, sessions(t), with(i), protocol, connect.WithInterceptors(i))
			for _, what := range []string{"look", "fail"} {
				req := connect.NewRequest(wrapperspb.String(what))
				if _, err := c.unary.CallUnary(sessionAt(t, 100), req); (err != nil) != (what == "fail") {
					t.Fatal(err)
				}
				req.Msg.Value = "look"
				for whose, ctx := range map[string]context.Context{"another session": sessionAt(t, 0), "no session": t.Context()} {
					res, err := c.unary.CallUnary(ctx, req)
					if err != nil {
						t.Fatal(err)
					}
					if got := res.Msg.Value; got != "0/0" {
						t.Errorf("after %q, with the same request of %s, the callee's session begins at %s, want 0/0", what, whose, got)
					}
				}
			}
		})
	}
}

// A gateway without a database hands tokens on in both directions.
func TestGateway(t *testing.T) {
	i := newInterceptor(t, pgtideconnect.Options{})
	behind := serve(t, sessions(t), with(i), connect.WithInterceptors(i))
	c := serve(t, behind.ask, with(i), connect.WithInterceptors(i))
	ctx := sessionAt(t, 100)
	if got, err := c.ask(ctx, "look"); got != "0/64" || err != nil {
		t.Errorf("the session behind begins at %q, %v; want 0/64", got, err)
	}
	if got, err := c.ask(ctx, "write 200"); got != "0/C8" || err != nil {
		t.Errorf("the session behind ends at %q, %v; want 0/C8", got, err)
	}
	expectToken(t, ctx, newToken(t, home, 200))
}

// Two writes at positions that are not known have the same token, and so have two
// reads of one node. The callee's may be later: the caller must hear of it.
func TestOpen(t *testing.T) {
	for name, flags := range map[string]byte{"a write": 1, "a read": 4} {
		t.Run(name, func(t *testing.T) {
			token, i := newOpen(t, flags), newInterceptor(t, pgtideconnect.Options{})
			s := func(ctx context.Context, what string) (string, error) {
				pgtide.WithToken(ctx, token)
				return "", nil
			}
			c := serve(t, s, with(i), connect.WithInterceptors(i))
			ctx := sessionAt(t, 0)
			pgtide.WithToken(ctx, token)
			if _, err := c.ask(ctx, "open"); err != nil {
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
		lines []string
		want  string // where the session begins
		bad   int64
	}{
		{"several", []string{many[0], many[2], many[1]}, "0/66", 0},
		{"folded into one line", []string{many[0] + ", " + many[2] + "," + many[1]}, "0/66", 0},
		{"empty", []string{""}, "0/0", 0},
		{"malformed", []string{"x", many[0], strings.Repeat("A", 5000)}, "0/64", 2},
		{"forged", []string{sign(newKeys(t, newSecret), home, 900, now)}, "0/0", 1},
		{"expired", []string{sign(keys, home, 900, now.Add(-2*time.Hour))}, "0/0", 1},
		{"too many", many, "0/6B", 1},
		{"two clusters", []string{many[0], sign(keys, abroad, 900, now)}, "0/64", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told int64
			i := newInterceptor(t, pgtideconnect.Options{Keys: keys, Lifetime: time.Hour, OnBadToken: func(_ context.Context, err error) {
				if told++; !errors.Is(err, pgtide.ErrBadToken) {
					t.Errorf("OnBadToken is told %v", err)
				}
			}})
			c := serve(t, sessions(t), with(i))
			req := connect.NewRequest(wrapperspb.String("look"))
			req.Header()[pgtideconnect.Header] = tt.lines
			res, err := c.unary.CallUnary(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Msg.Value; got != tt.want || i.Stat().Bad != tt.bad || told != tt.bad {
				t.Errorf("the session begins at %s, %d tokens were bad and %d told; want %s and %d", got, i.Stat().Bad, told, tt.want, tt.bad)
			}
		})
	}
}

// A server that answers with bad tokens does not fail its callers.
func TestAnswers(t *testing.T) {
	i := newInterceptor(t, pgtideconnect.Options{})
	forged := newKeys(t, newSecret).Sign(newToken(t, home, 900), time.Now())
	rogue := func(ctx context.Context, _ string) (string, error) {
		info, ok := connect.CallInfoForHandlerContext(ctx)
		if !ok {
			return "", errors.New("there is no call")
		}
		info.ResponseHeader().Set(pgtideconnect.Header, "x")
		info.ResponseTrailer().Set(pgtideconnect.Header, forged)
		return "", nil
	}
	c := serve(t, rogue, nil, connect.WithInterceptors(i))
	ctx := sessionAt(t, 100)
	if _, err := c.ask(ctx, "look"); err != nil {
		t.Error(err)
	}
	stream := c.open(t, ctx)
	stream.ask("look")
	stream.end()
	expectToken(t, ctx, newToken(t, home, 100))
	if bad := i.Stat().Bad; bad != 4 {
		t.Errorf("%d tokens were bad, want 2 of each RPC", bad)
	}
}

func TestNewPanics(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		options    pgtideconnect.Options
	}{
		{"no keys", "Keys is nil", pgtideconnect.Options{}},
		{"lifetime", "Lifetime 500ms", pgtideconnect.Options{Keys: newKeys(t, secret), Lifetime: 500 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "pgtideconnect: ") || !strings.Contains(got, tt.want) {
					t.Errorf("panic says %q, want it to say %q", got, tt.want)
				}
			}()
			pgtideconnect.New(tt.options)
		})
	}
}
