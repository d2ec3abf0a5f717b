package pgtidegrpc_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidegrpc"
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

// service does what each message it gets says and answers what came of it.
type service struct {
	testpb.UnimplementedTestServiceServer
	do func(ctx context.Context, what string) (string, error)
}

func (s *service) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	answer, err := s.do(ctx, string(in.Payload.Body))
	return &testpb.SimpleResponse{Username: answer}, err
}

func (s *service) StreamingInputCall(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{})
		}
		if err != nil {
			return err
		}
		if _, err := s.do(stream.Context(), string(in.Payload.Body)); err != nil {
			return err
		}
	}
}

func (s *service) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := s.do(stream.Context(), string(in.Payload.Body))
		if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: payload(answer)}); err != nil {
			return err
		}
	}
}

func payload(what string) *testpb.Payload { return &testpb.Payload{Body: []byte(what)} }

// serve serves s within the test's process and returns a client of it.
func serve(t *testing.T, s *service, o []grpc.ServerOption, d []grpc.DialOption) testpb.TestServiceClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(o...)
	testpb.RegisterTestServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	conn, err := grpc.NewClient("passthrough:test", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	}, d...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return testpb.NewTestServiceClient(conn)
}

func unary(ctx context.Context, c testpb.TestServiceClient, what string, o ...grpc.CallOption) (string, error) {
	out, err := c.UnaryCall(ctx, &testpb.SimpleRequest{Payload: payload(what)}, o...)
	return out.GetUsername(), err
}

func input(ctx context.Context, c testpb.TestServiceClient, what string) error {
	stream, err := c.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&testpb.StreamingInputCallRequest{Payload: payload(what)}); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return err
}

type duplex struct {
	testpb.TestService_FullDuplexCallClient
	t *testing.T
}

func open(t *testing.T, ctx context.Context, c testpb.TestServiceClient) duplex {
	t.Helper()
	stream, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return duplex{stream, t}
}

// ask sends one message and returns the answer.
func (d duplex) ask(what string) string {
	d.t.Helper()
	if err := d.Send(&testpb.StreamingOutputCallRequest{Payload: payload(what)}); err != nil {
		d.t.Fatal(err)
	}
	out, err := d.Recv()
	if err != nil {
		d.t.Fatal(err)
	}
	return string(out.Payload.Body)
}

func (d duplex) end() {
	d.t.Helper()
	if err := d.CloseSend(); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.Recv(); err != io.EOF {
		d.t.Fatalf("the stream ends with %v, want EOF", err)
	}
}

// sessions is a service without a database: "write N" raises its session to
// position N, "look" answers the session's position, "fail N" raises and fails,
// "panic N" raises and panics, "header" sends the header at once.
func sessions(t *testing.T) *service {
	return &service{do: func(ctx context.Context, what string) (string, error) {
		verb, number, _ := strings.Cut(what, " ")
		if lsn, err := strconv.ParseUint(number, 10, 32); err == nil {
			pgtide.WithToken(ctx, newToken(t, home, lsn))
		}
		switch verb {
		case "fail":
			return "", status.Error(codes.Aborted, "as told")
		case "panic":
			panic("as told")
		case "header":
			if err := grpc.SendHeader(ctx, metadata.Pairs("early", "yes")); err != nil {
				return "", err
			}
		}
		if !pgtide.HasSession(ctx) {
			return "", errors.New("there is no session")
		}
		token, _ := pgtide.TokenFrom(ctx)
		return token.LSN(), nil
	}}
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

func newInterceptors(t *testing.T, o pgtidegrpc.Options) *pgtidegrpc.Interceptors {
	if o.Keys == nil {
		o.Keys = newKeys(t, secret)
	}
	return pgtidegrpc.New(o)
}
