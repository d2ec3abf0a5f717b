package route

import (
	"math/bits"

	"github.com/pgtide/pgtide/internal/topology"
)

// pick chooses among nodes that may all serve r: the one the session read from
// last, which keeps reads monotonic and caches warm; else the less loaded of
// two taken at random, which spreads load almost as well as the least loaded of
// all without making every caller run to the same node
// (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
func pick(v *topology.View, r *Request, load Load, candidates uint64) Decision {
	d := Decision{Action: Go, Reason: Fresh}
	switch {
	case r.Level == Eventual:
		d.Reason = Any
	case r.HasWaited:
		d.Reason = Waited
	}
	if r.Last != topology.NoNode && candidates&bit(r.Last) != 0 {
		d.Node = r.Last
		if d.Reason == Fresh {
			d.Reason = Sticky
		}
		return d
	}
	n := uint64(bits.OnesCount64(candidates))
	first := r.Random >> 32 * n >> 32
	d.Node = nth(candidates, first)
	if n > 1 {
		// The second choice is one of the other n-1.
		second := (first + 1 + r.Random&0xffffffff*(n-1)>>32) % n
		if other := nth(candidates, second); load.InFlight(other) < load.InFlight(d.Node) {
			d.Node = other
		}
	}
	return d
}

// nth returns the index of the k-th set bit, counted from zero.
func nth(set, k uint64) int {
	for ; k > 0; k-- {
		set &= set - 1
	}
	return bits.TrailingZeros64(set)
}
