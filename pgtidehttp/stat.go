package pgtidehttp

import "sync/atomic"

// Stat is a snapshot of what a [Middleware] has counted since it was made.
type Stat struct {
	// Received counts tokens that requests brought and that were good, Sent
	// responses that took one back.
	Received, Sent int64

	// Dropped tokens by cause. Bad ones are malformed, forged, signed with a key
	// that is not accepted any more, or too many in one request.
	Bad     int64
	Expired int64 // older than [Options.Lifetime]
	Foreign int64 // of another cluster

	// Late bounds how many responses had begun before their session's last
	// write. It is a bound from above: a token may also change because its
	// position has become known.
	Late int64
}

// Stat returns a snapshot of m's counters.
func (m *Middleware) Stat() *Stat {
	return &Stat{
		Received: m.stat.received.Load(),
		Sent:     m.stat.sent.Load(),
		Bad:      m.stat.bad.Load(),
		Expired:  m.stat.expired.Load(),
		Foreign:  m.stat.foreign.Load(),
		Late:     m.stat.late.Load(),
	}
}

// counters are what Stat is made of.
type counters struct {
	received, sent, bad, expired, foreign, late atomic.Int64
}
