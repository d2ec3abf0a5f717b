package pgtideconnect

import (
	"context"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"github.com/pgtide/pgtide"
)

// serve serves a unary RPC.
func (i *Interceptor) serve(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	s := i.begin(ctx, req.Header())
	// Also when next panics: an interceptor further out may answer in its place,
	// and what was written is written.
	defer func() {
		// The call's own header goes out with an error too, which the response's
		// cannot; an error's metadata may be shared by many calls.
		if info, ok := connect.CallInfoForHandlerContext(ctx); ok && s.tell(info.ResponseHeader()) {
			i.sent.Add(1)
		}
	}()
	return next(s.ctx, req)
}

// WrapStreamingHandler implements [connect.Interceptor].
func (i *Interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		s := i.begin(ctx, conn.RequestHeader())
		defer func() {
			if s.tell(conn.ResponseTrailer()) {
				i.sent.Add(1)
			}
		}()
		return next(s.ctx, &handlerConn{StreamingHandlerConn: conn, served: s})
	}
}

// served is an RPC as its handler sees it.
type served struct {
	i       *Interceptor
	ctx     context.Context
	carried pgtide.Token // what the client has
}

// begin begins the session of an RPC with what the request brings.
func (i *Interceptor) begin(ctx context.Context, request http.Header) served {
	if !pgtide.HasSession(ctx) {
		ctx = pgtide.NewSession(ctx)
	}
	return served{i, ctx, i.receive(ctx, request)}
}

// tell adds the session's token to h if the client needs it.
func (s *served) tell(h http.Header) bool {
	t, ok := pgtide.TokenFrom(s.ctx)
	if !ok || s.carried.Covers(t) {
		return false
	}
	text := s.i.sign(t)
	if text != "" {
		h.Set(Header, text)
	}
	return text != ""
}

// handlerConn is the stream that handlers see.
type handlerConn struct {
	connect.StreamingHandlerConn
	served
	once sync.Once
}

// Send implements [connect.StreamingHandlerConn].
func (c *handlerConn) Send(m any) error {
	c.once.Do(func() { c.tell(c.ResponseHeader()) })
	return c.StreamingHandlerConn.Send(m)
}
