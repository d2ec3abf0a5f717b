package pgtideconnect_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideconnect"
)

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

// newOpen makes a token of something at a position that is not known: of a write,
// or of what was read in a run of a node.
func newOpen(t testing.TB, flags byte) pgtide.Token {
	t.Helper()
	b := []byte{1, flags}
	b = binary.BigEndian.AppendUint64(b, home)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint64(b, 100)
	b = binary.BigEndian.AppendUint32(b, 5)
	if flags&4 != 0 {
		b = binary.BigEndian.AppendUint32(b, 6)
	}
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
		t.Fatal(err)
	}
	return k
}

const secret, newSecret = "a secret for the tests of today", "a secret for the tests of tomorrow"

// text is the message of all RPCs.
type text = wrapperspb.StringValue

// doer does what a message says and answers what came of it.
type doer func(ctx context.Context, what string) (string, error)

const unaryPath, inputPath, duplexPath = "/test/Unary", "/test/Input", "/test/Duplex"

func (do doer) mux(o []connect.HandlerOption) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(unaryPath, connect.NewUnaryHandler(unaryPath, func(ctx context.Context, in *connect.Request[text]) (*connect.Response[text], error) {
		answer, err := do(ctx, in.Msg.Value)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(wrapperspb.String(answer)), nil
	}, o...))
	mux.Handle(inputPath, connect.NewClientStreamHandler(inputPath, func(ctx context.Context, in *connect.ClientStream[text]) (*connect.Response[text], error) {
		var answer string
		for in.Receive() {
			var err error
			if answer, err = do(ctx, in.Msg().Value); err != nil {
				return nil, err
			}
		}
		return connect.NewResponse(wrapperspb.String(answer)), in.Err()
	}, o...))
	mux.Handle(duplexPath, connect.NewBidiStreamHandler(duplexPath, func(ctx context.Context, stream *connect.BidiStream[text, text]) error {
		for {
			in, err := stream.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			answer, err := do(ctx, in.Value)
			if err != nil {
				return err
			}
			if err := stream.Send(wrapperspb.String(answer)); err != nil {
				return err
			}
		}
	}, o...))
	return mux
}

// client calls the RPCs of a server.
type client struct{ unary, input, duplex *connect.Client[text, text] }

// serve serves do on a loopback port and returns a client of it.
func serve(t *testing.T, do doer, h []connect.HandlerOption, o ...connect.ClientOption) *client {
	t.Helper()
	server := httptest.NewUnstartedServer(do.mux(h))
	server.EnableHTTP2 = true // for streams in both directions
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	at := func(path string) *connect.Client[text, text] {
		return connect.NewClient[text, text](server.Client(), server.URL+path, o...)
	}
	return &client{at(unaryPath), at(inputPath), at(duplexPath)}
}

// ask makes a unary RPC.
func (c *client) ask(ctx context.Context, what string) (string, error) {
	res, err := c.unary.CallUnary(ctx, connect.NewRequest(wrapperspb.String(what)))
	if err != nil {
		return "", err
	}
	return res.Msg.Value, nil
}

// put makes an RPC with a stream of one request.
func (c *client) put(ctx context.Context, what string) (string, error) {
	stream := c.input.CallClientStream(ctx)
	if err := stream.Send(wrapperspb.String(what)); err != nil {
		return "", err
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return "", err
	}
	return res.Msg.Value, nil
}

type duplex struct {
	*connect.BidiStreamForClient[text, text]
	t *testing.T
}

func (c *client) open(t *testing.T, ctx context.Context) duplex {
	return duplex{c.duplex.CallBidiStream(ctx), t}
}

// ask sends one message and returns the answer.
func (d duplex) ask(what string) string {
	d.t.Helper()
	if err := d.Send(wrapperspb.String(what)); err != nil {
		d.t.Fatal(err)
	}
	out, err := d.Receive()
	if err != nil {
		d.t.Fatal(err)
	}
	return out.Value
}

func (d duplex) end() {
	d.t.Helper()
	if err := d.CloseRequest(); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Receive(); !errors.Is(err, io.EOF) {
		d.t.Fatalf("the stream ends with %v, want EOF", err)
	}
	if err := d.CloseResponse(); err != nil {
		d.t.Fatal(err)
	}
}

// errShared is one error for all calls, as programs define them.
var errShared = connect.NewError(connect.CodeAborted, errors.New("as told"))

// sessions answers without a database: "write N" raises the session to position
// N, "look" answers its position, "fail N" raises and fails, "panic N" raises and
// panics.
func sessions(t *testing.T) doer {
	return func(ctx context.Context, what string) (string, error) {
		verb, number, _ := strings.Cut(what, " ")
		if lsn, err := strconv.ParseUint(number, 10, 32); err == nil {
			pgtide.WithToken(ctx, newToken(t, home, lsn))
		}
		switch verb {
		case "fail":
			return "", errShared
		case "panic":
			panic("as told")
		}
		if !pgtide.HasSession(ctx) {
			return "", errors.New("there is no session")
		}
		token, _ := pgtide.TokenFrom(ctx)
		return token.LSN(), nil
	}
}

// sessionAt returns a context with a session that has written at a position.
func sessionAt(t *testing.T, lsn uint64) context.Context {
	ctx, cancel := context.WithTimeout(pgtide.NewSession(t.Context()), 20*time.Second)
	t.Cleanup(cancel)
	if lsn != 0 {
		pgtide.WithToken(ctx, newToken(t, home, lsn))
	}
	return ctx
}

func expectToken(t *testing.T, ctx context.Context, want pgtide.Token) {
	t.Helper()
	if got, _ := pgtide.TokenFrom(ctx); !got.Equal(want) {
		t.Errorf("the session has %v, want %v", got, want)
	}
}

func newInterceptor(t *testing.T, o pgtideconnect.Options) *pgtideconnect.Interceptor {
	if o.Keys == nil {
		o.Keys = newKeys(t, secret)
	}
	return pgtideconnect.New(o)
}

// with are the options of handlers that use i.
func with(i *pgtideconnect.Interceptor) []connect.HandlerOption {
	return []connect.HandlerOption{connect.WithInterceptors(i)}
}

// protocols are the options of clients that speak each protocol.
var protocols = map[string]connect.ClientOption{
	"connect":  connect.WithClientOptions(),
	"gRPC":     connect.WithGRPC(),
	"gRPC-Web": connect.WithGRPCWeb(),
}
