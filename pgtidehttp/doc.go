// Package pgtidehttp lets a browser or an API client that has written see its
// write in every later request, whichever instance of the application and
// whichever replica serve it.
//
//	keys, err := pgtide.NewKeys(secret)
//	handler := pgtidehttp.New(db, pgtidehttp.Options{Keys: keys}).Wrap(mux)
//
// Each request is a session of package pgtide: handlers use the request's
// context for their calls and are otherwise as they were. The session begins
// with the token that the request brought, and when it has changed by the time
// the response begins, the response takes the new token back: in a cookie,
// which browsers return by themselves, and in a header, which API clients copy
// into their next request. Where a statement goes is decided by the statement,
// not by the request's method.
//
// # Out
//
// The token leaves with the response's header, so it covers what the handler
// did before the first byte of its body, its first Flush or its return,
// whatever the status: 201, 303, 204 and 500 alike. Interim responses such as
// 103 carry none. A request that changed nothing gets none; with consistency
// [pgtide.Session] reads are changes too.
//
// What a handler writes after that cannot be carried: HTTP has no place for
// it, since browsers ignore cookies in trailers. [Stat.Late] counts such
// responses. Write first and stream then. On a hijacked connection the token
// is in the ResponseWriter's Header, for the handler to send. A session that
// the handler begins itself is not looked at.
//
// # In
//
// A request may bring several tokens, in the header and in cookies; what it
// must see is what all of them together ask for. A token that is malformed,
// forged, expired or of another cluster is dropped and counted, never
// answered, and the request is served as if it had not been there.
//
// Instances of an application need the same keys. To rotate them, let all
// instances accept the new key before any signs with it; see [pgtide.NewKeys].
//
// # Caches
//
// A cache that gave one client's token to another would set the other back. So
// a response with a token gets "Cache-Control: private" if the handler has not
// set Cache-Control. One that it has set is left alone: a response to a request
// that writes must not be marked public. Responses without a token are
// not touched, and no Vary is added: a token does not change what a page is,
// only how fresh it must be.
//
// # ResponseWriter
//
// The handler's ResponseWriter passes Flush, Hijack, ReadFrom and WriteString
// on, and [http.ResponseController] works with it. Flush and Hijack are always
// there; where the server's own writer lacks them, the first does nothing and
// the second returns [http.ErrNotSupported].
package pgtidehttp
