// Package pgtideconnect has services that call each other by Connect see each
// other's writes, whichever replica serves their reads.
//
//	keys, err := pgtide.NewKeys(secret)
//	tide := pgtideconnect.New(pgtideconnect.Options{Keys: keys})
//
//	mux.Handle(shopconnect.NewShopHandler(shop, connect.WithInterceptors(tide)))
//	client := shopconnect.NewShopClient(http.DefaultClient, url, connect.WithInterceptors(tide))
//
// A call takes the token of the caller's session along, so that the callee reads
// what the caller has written; and it brings back the token of the callee's
// session, so that the caller reads what the callee has written. The services
// need the same keys, and no database of their own to pass tokens on. It speaks
// to package pgtidegrpc on the other side as well, when the protocol is gRPC.
//
// # Handler
//
// Each RPC is a session of package pgtide: handlers use its context. The session
// begins with the tokens that the request brings in [Header]. Where the context
// has a session already, as inside pgtidehttp, that one goes on.
//
// If the session's token has changed by the end of a unary RPC, or asks for
// something at a position that is not known yet, it goes back in the response's
// header, whatever the outcome. In a stream it goes back in the
// trailer, and also in the header if it has changed before the first message: a
// client that reads a stream without end learns there of what was written by
// then.
//
// A session that the handler begins itself is not looked at.
//
// # Client
//
// A call whose context has a session ([pgtide.NewSession]) takes its token as it
// is when the RPC begins; a header of the same name in the request is replaced.
// What comes back raises that session, also when the call fails: for a unary
// call by the time it returns. In streams the header's token counts from the
// first message on, and the trailer's once Receive has returned an error,
// [io.EOF] included, which it has by the end of CloseAndReceive: a stream that is
// abandoned before leaves no later token.
//
// A call whose context has no session is left alone.
//
// Tokens are sent to every server that the client calls. They hold a position in
// the write-ahead log and the cluster's system identifier, in the clear, and
// grant no access. Responses with a token must not be cached by anybody who
// serves others: leave side effects out of what is declared idempotent and
// fetched with GET.
//
// # Bad tokens
//
// A token that is malformed, forged or expired is dropped and counted, on either
// side, and the RPC goes on as if it had not been there. A token of
// another cluster is kept for whoever may use it, and raises nothing here; a
// session hands on the token of one cluster.
package pgtideconnect
