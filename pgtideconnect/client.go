package pgtideconnect

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pgtide/pgtide"
)

// call makes a unary RPC.
func (i *Interceptor) call(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	if !pgtide.HasSession(ctx) {
		return next(ctx, req)
	}
	h := req.Header()
	own := h[Header]
	i.send(ctx, h)
	res, err := next(ctx, req)
	if err == nil || connect.IsWireError(err) { // else it may still be on its way
		// A program may use the request again, for another session.
		if h.Del(Header); own != nil {
			h[Header] = own
		}
	}
	if err != nil {
		i.receive(ctx, meta(err))
	} else {
		i.receive(ctx, res.Header(), res.Trailer())
	}
	return res, err
}

// WrapStreamingClient implements [connect.Interceptor].
func (i *Interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if !pgtide.HasSession(ctx) {
			return conn
		}
		i.send(ctx, conn.RequestHeader())
		return &clientConn{StreamingClientConn: conn, i: i, ctx: ctx}
	}
}

// send puts the token of the session of ctx into the header of a request, in
// place of what is there.
func (i *Interceptor) send(ctx context.Context, h http.Header) {
	h.Del(Header)
	t, _ := pgtide.TokenFrom(ctx)
	if text := i.sign(t); text != "" {
		i.sent.Add(1)
		h.Set(Header, text)
	}
}

// meta returns what a server has sent along with err.
func meta(err error) http.Header {
	if e := (*connect.Error)(nil); errors.As(err, &e) {
		return e.Meta()
	}
	return nil
}

// clientConn is the stream that callers see.
type clientConn struct {
	connect.StreamingClientConn
	i   *Interceptor
	ctx context.Context // with the session
	// What was looked at. Only Receive uses these, which is for one goroutine at a
	// time.
	header, trailer bool
}

// Receive implements [connect.StreamingClientConn].
func (c *clientConn) Receive(m any) error {
	err := c.StreamingClientConn.Receive(m)
	switch {
	case err == nil && !c.header:
		c.header = true
		c.i.receive(c.ctx, c.ResponseHeader())
	case err != nil && !c.trailer:
		c.trailer = true
		c.i.receive(c.ctx, c.ResponseTrailer(), meta(err))
	}
	return err
}
