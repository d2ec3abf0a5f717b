// Package pgtidegrpc has services that call each other by gRPC see each other's
// writes, whichever replica serves their reads.
//
//	keys, err := pgtide.NewKeys(secret)
//	tide := pgtidegrpc.New(pgtidegrpc.Options{Keys: keys})
//
//	server := grpc.NewServer(tide.ServerOptions()...)
//	conn, err := grpc.NewClient(target, append(tide.DialOptions(), ...)...)
//
// A call takes the token of the caller's session along, so that the callee reads
// what the caller has written; and it brings back the token of the callee's
// session, so that the caller reads what the callee has written. The services
// need the same keys, and no database of their own to pass tokens on.
//
// # Server
//
// Each RPC is a session of package pgtide: handlers use its context. The session
// begins with the tokens that the call brings in its metadata under [MetadataKey].
// Where the context has a session already, of an interceptor further out, that
// one goes on.
//
// If the session's token has changed by the end, or asks for something at a
// position that is not known yet, it goes back in the trailer, whatever the status,
// and it covers all that the handler did. It also goes back
// in the header if it has changed before the header is sent, with the
// first message or before: a client that reads a stream without end learns there
// of what was written by then. What a stream's handler writes later reaches the
// client in the trailer alone. A header that the handler sends by
// [grpc.SendHeader] in a stream carries none.
//
// A session that the handler begins itself is not looked at.
//
// # Client
//
// A call whose context has a session ([pgtide.NewSession]) takes its token as it
// is when the RPC begins; metadata of the same key that the context holds is
// replaced. What comes back raises that session, also when the call fails: for a
// unary call, and for a stream with one response, by the time it returns. In
// other streams the header's token counts once RecvMsg has returned, and the
// trailer's once RecvMsg has returned an error, [io.EOF] included: a stream that
// is abandoned before leaves no later token.
//
// A call whose context has no session is left alone.
//
// Tokens are sent to every server that the connection leads to. They hold a
// position in the write-ahead log and the cluster's system identifier, in the
// clear, and grant no access.
//
// # Bad tokens
//
// A token that is malformed, forged or expired is dropped and counted, on either
// side, and the RPC goes on as if it had not been there. A token of
// another cluster is kept for whoever may use it, and raises nothing here; a
// session hands on the token of one cluster.
package pgtidegrpc
