package pgtidegrpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pgtide/pgtide"
)

var (
	_ grpc.UnaryServerInterceptor  = (*Interceptors)(nil).UnaryServer
	_ grpc.StreamServerInterceptor = (*Interceptors)(nil).StreamServer
)

// UnaryServer is a [grpc.UnaryServerInterceptor].
func (i *Interceptors) UnaryServer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	s := i.begin(ctx)
	// Also when handler panics: an interceptor further out may answer in its
	// place, and what was written is written.
	defer func() {
		if md := s.changed(); md != nil {
			i.sent.Add(1)
			// An error says that the handler has sent the header: the trailer remains.
			_ = grpc.SetHeader(ctx, md)
			_ = grpc.SetTrailer(ctx, md)
		}
	}()
	return handler(s.ctx, req)
}

// StreamServer is a [grpc.StreamServerInterceptor].
func (i *Interceptors) StreamServer(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s := i.begin(ss.Context())
	defer func() {
		if md := s.changed(); md != nil {
			i.sent.Add(1)
			ss.SetTrailer(md)
		}
	}()
	return handler(srv, &serverStream{ServerStream: ss, served: s})
}

// served is an RPC as its server sees it.
type served struct {
	i       *Interceptors
	ctx     context.Context
	carried pgtide.Token // what the client has
}

// begin begins the session of an RPC with what the call brings.
func (i *Interceptors) begin(ctx context.Context) served {
	if !pgtide.HasSession(ctx) {
		ctx = pgtide.NewSession(ctx)
	}
	return served{i, ctx, i.receive(ctx, metadata.ValueFromIncomingContext(ctx, MetadataKey))}
}

// changed returns the session's token if the client needs it, else nil.
func (s *served) changed() metadata.MD {
	t, ok := pgtide.TokenFrom(s.ctx)
	if !ok || s.carried.Covers(t) {
		return nil
	}
	text := s.i.sign(t)
	if text == "" {
		return nil
	}
	return metadata.Pairs(MetadataKey, text)
}

// serverStream is the stream that handlers see.
type serverStream struct {
	grpc.ServerStream
	served
	once sync.Once
}

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return s.ctx }

// SendHeader implements [grpc.ServerStream].
func (s *serverStream) SendHeader(md metadata.MD) error {
	s.header()
	return s.ServerStream.SendHeader(md)
}

// SendMsg implements [grpc.ServerStream].
func (s *serverStream) SendMsg(m any) error {
	s.header()
	return s.ServerStream.SendMsg(m)
}

// header adds the session's token to the header, which is about to be sent.
func (s *serverStream) header() {
	s.once.Do(func() {
		if md := s.changed(); md != nil {
			// An error says that the header is out already: the trailer remains.
			_ = s.ServerStream.SetHeader(md)
		}
	})
}
