package pgtidehttp

import "sync/atomic"

// Stat is a snapshot of what a [Middleware] has counted since it was made.
type Stat struct {
	// Received counts tokens that requests brought and that were good, Sent
	// responses that took one back.
	Received, Sent int64
	// Cleared counts cookies taken back: their tokens are part of a newer one,
	// or every replica has passed them.
	Cleared int64
	// Pinned counts requests whose reads went to the primary for [Options.PinFor].
	Pinned int64

	// Dropped tokens by cause. Bad ones are malformed, forged, signed with a key
	// that is not accepted any more, or too many in one request.
	Bad     int64
	Expired int64 // older than [Options.Lifetime]
	Foreign int64 // of another cluster

	// Late bounds how many responses had begun before their session's last
	// write. It is a bound from above: a token may also change because its
	// position has become known.
	Late int64

	// Misread counts trusted requests whose [Options.ConsistencyHeader] said
	// nothing that is known.
	Misread int64
	// StoreErrors counts calls of [Options.Store] that failed.
	StoreErrors int64

	// Transactions of requests, by how they ended. CommitErrors are part of
	// neither Committed nor RolledBack.
	Committed, RolledBack, CommitErrors int64
}

// Stat returns a snapshot of m's counters.
func (m *Middleware) Stat() *Stat {
	return &Stat{
		Received:     m.stat.received.Load(),
		Sent:         m.stat.sent.Load(),
		Cleared:      m.stat.cleared.Load(),
		Pinned:       m.stat.pinned.Load(),
		Bad:          m.stat.bad.Load(),
		Expired:      m.stat.expired.Load(),
		Foreign:      m.stat.foreign.Load(),
		Late:         m.stat.late.Load(),
		Misread:      m.stat.misread.Load(),
		StoreErrors:  m.stat.storeErrors.Load(),
		Committed:    m.stat.committed.Load(),
		RolledBack:   m.stat.rolledBack.Load(),
		CommitErrors: m.stat.commitErrors.Load(),
	}
}

// counters are what Stat is made of.
type counters struct {
	received, sent, cleared, pinned     atomic.Int64
	bad, expired, foreign, late         atomic.Int64
	misread, storeErrors                atomic.Int64
	committed, rolledBack, commitErrors atomic.Int64
}
