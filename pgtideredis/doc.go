// Package pgtideredis keeps the tokens of package pgtide in Redis or Valkey, for
// callers that carry none themselves: mobile clients, webhooks, the several
// devices of one user. What one of them wrote, all of them see.
//
//	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
//	store := pgtideredis.New(db, pgtideredis.Options{Client: client})
//
//	err := store.Raise(ctx, "user-42", token, 5*time.Minute) // after a write
//	token, err := store.Load(ctx, "user-42")                 // before a read, in any process
//
// # What is kept
//
// Load returns what all tokens together ask for that were raised under the key
// within their time to live, of db's cluster. Raises of any number of processes
// at once lose nothing. Each costs one round trip, and one in about sixteen
// raises of a busy key a second one, to make one token of many.
//
// Tokens of another cluster are kept apart: applications can share a Prefix,
// and a cluster that is built anew does not meet the tokens of the old one.
//
// # What is not
//
// The store is a cache of freshness. When Redis is restarted empty, fails over
// to a replica that lags, or evicts a key, tokens are gone without an error,
// and the sessions that would have had them may read stale, as if they had never
// written. When it cannot be reached, Load and Raise return an error within
// [Options.Timeout]; a read that must not be stale goes to the primary then:
//
//	token, err := store.Load(ctx, user)
//	if err != nil {
//		ctx = pgtide.OnPrimary(ctx)
//	}
//
// Reads must go to Redis' own primary: a client that reads at Redis' replicas
// would find the token later than the data.
//
// # Trust
//
// Tokens are stored as they are: whoever can write to Redis can make up a token
// that sends a user's reads to the primary until it expires, and nothing worse:
// a token grants no access. With [Options.Keys] they are signed, and what is not
// signed is ignored.
//
// What is found under a key and is no token is ignored, counted in [Stat.Bad],
// and never an error. A value that is not even a set is overwritten by the next
// Raise: the names below Prefix belong to the store.
package pgtideredis
