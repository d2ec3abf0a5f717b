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
// into their next request.
//
// # Where calls go
//
// The statement decides, as everywhere in pgtide: a POST reads from replicas, and
// a GET that writes does so on the primary and sees it from then on. Of a request
// it can be said, each of these before the next:
//
//   - by a wrapper of its handler: [UsePrimary], [UseReplica], [UseGroup], [Use];
//   - by the request itself, in [Options.ConsistencyHeader], if [Options.Trust]
//     trusts it;
//   - by [Options.Routes], for its pattern or route name;
//   - by its method, with [Options.WritersOnPrimary].
//
// Whoever decides is named in the Note of the decisions that [pgtide.Explain]
// returns. What the session must see is a floor under all of them: a route sent to
// replicas still shows the session's writes, unless it asks for
// [pgtide.Eventual].
//
// The method also says what the request is for, reading or writing, unless the
// above says primary or replica. That decides what becomes of a write in a request
// that reads ([Options.WriteInRead]), how the request's transaction begins ([Tx])
// and what [ReadOnlyMode] lets through; it does not route.
//
// A path that no route matches is as if there were no routes, and the router's own
// business.
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
// # Cookies
//
// Each token has a cookie of its own name. Browsers get responses to requests made
// at once in any order, and with one cookie for all, the older token could
// overwrite the younger: a write would be lost to its writer. A response with a
// token takes back the cookies that its request brought, and no others: they are a
// part of the new one. So there is one cookie as a rule, and a few for a moment.
// A request that brings many has them made into one although it wrote nothing.
//
// A cookie lives for [Options.Lifetime], or until every replica has what it stands
// for: the next response takes it back. [Options.PinFor] adds a time during which
// a client that has written reads at the primary.
//
// # In
//
// A request may bring several tokens, in the header and in cookies; what it
// must see is what all of them together ask for. A token that is malformed,
// forged, expired or of another cluster is dropped and counted, never
// answered, and the request is served as if it had not been there. 256 tokens of a
// request are looked at, more than browsers keep for a site. A token that asks for
// more than the cluster has ever had is dropped by the DB.
//
// Instances of an application need the same keys. To rotate them, let all
// instances accept the new key before any signs with it; see [pgtide.NewKeys].
//
// For clients that keep neither cookies nor headers there is [Options.Store], by
// user or session id. While it is down, the primary is asked where it is, which
// covers what the client may have written: no request fails for it. [Transport]
// takes a session along to another service.
//
// # Transactions
//
// With [Options.Transactions] or [Atomic], a handler that calls [Tx] works in one
// transaction per request, committed before the first byte of the response, so
// that no client is told of what is not there. What it does through the DB itself
// is not a part of it. Status 500 and more, or a panic, rolls it back.
//
// # Caches
//
// A cache that gave one client's token to another would set the other back. So
// a response with a token gets "Cache-Control: private" if the handler has not
// set Cache-Control. One that it has set is left alone: a response to a request
// that writes must not be marked public, nor at consistency [pgtide.Session] any to
// one that reads. Responses without a token are
// not touched, and no Vary is added: a token does not change what a page is,
// only how fresh it must be. A response may take cookies back whoever gets it: the
// name of one stands for one token, which is not needed any more.
//
// # ResponseWriter
//
// The handler's ResponseWriter passes Flush, Hijack, ReadFrom and WriteString
// on, and [http.ResponseController] works with it. Flush and Hijack are always
// there; where the server's own writer lacks them, the first does nothing and
// the second returns [http.ErrNotSupported].
//
// An [http.TimeoutHandler] further out answers in the place of a response whose
// token is lost with it: one further in answers through Wrap, and only what the
// handler does after that is late.
package pgtidehttp
