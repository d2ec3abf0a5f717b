package pgtidegrpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pgtide/pgtide"
)

var (
	_ grpc.UnaryClientInterceptor  = (*Interceptors)(nil).UnaryClient
	_ grpc.StreamClientInterceptor = (*Interceptors)(nil).StreamClient
)

// UnaryClient is a [grpc.UnaryClientInterceptor].
func (i *Interceptors) UnaryClient(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !pgtide.HasSession(ctx) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	var header, trailer metadata.MD
	opts = append(slices.Clip(opts), grpc.Header(&header), grpc.Trailer(&trailer))
	err := invoker(i.outgoing(ctx), method, req, reply, cc, opts...)
	// Both usually hold the same.
	i.receive(ctx, slices.Compact(slices.Concat(header[MetadataKey], trailer[MetadataKey])))
	return err
}

// StreamClient is a [grpc.StreamClientInterceptor].
func (i *Interceptors) StreamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if !pgtide.HasSession(ctx) {
		return streamer(ctx, desc, cc, method, opts...)
	}
	cs, err := streamer(i.outgoing(ctx), desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &clientStream{ClientStream: cs, i: i, ctx: ctx, single: !desc.ServerStreams}, nil
}

// outgoing returns a context whose RPCs take the token of its session along.
func (i *Interceptors) outgoing(ctx context.Context) context.Context {
	t, _ := pgtide.TokenFrom(ctx)
	text := i.sign(t)
	if text == "" {
		return ctx
	}
	i.sent.Add(1)
	md, ok := metadata.FromOutgoingContext(ctx) // a copy
	if !ok {
		md = metadata.MD{}
	}
	// Whoever hands on the metadata of its own caller has an old token there.
	md.Set(MetadataKey, text)
	return metadata.NewOutgoingContext(ctx, md)
}

// clientStream is the stream that callers see.
type clientStream struct {
	grpc.ClientStream
	i      *Interceptors
	ctx    context.Context // with the session
	single bool            // the server sends one message and the status at once
	// What was looked at. Only RecvMsg uses these, which is for one goroutine at a
	// time.
	header, trailer bool
}

// RecvMsg implements [grpc.ClientStream].
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if !s.header {
		s.header = true
		// It is here, as a message came after it, or will never be, and is empty.
		if md, err := s.Header(); err == nil {
			s.i.receive(s.ctx, md[MetadataKey])
		}
	}
	if (err != nil || s.single) && !s.trailer {
		s.trailer = true
		s.i.receive(s.ctx, s.Trailer()[MetadataKey])
	}
	return err
}
