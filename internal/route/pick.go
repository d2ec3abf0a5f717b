package route

import (
	"math/bits"
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// chosen is the decision for replica i, which may serve r.
func chosen(r *Request, i int) Decision {
	d := Decision{Action: Go, Reason: Fresh, Node: i}
	switch {
	case r.Level == Eventual:
		d.Reason = Any
	case r.HasWaited:
		d.Reason = Waited
	case i == r.Last:
		d.Reason = Sticky
	}
	return d
}

// quick finds a replica for r without looking at all of them: the one that the
// session read from last, which keeps reads monotonic and caches warm; in a
// large cluster else two taken at random, as pick would. It may find none where
// there is one.
func quick(v *topology.View, r *Request, load Load, now time.Duration) (node int, ok bool) {
	if r.Last != topology.NoNode && serves(v, r, r.Last, now) {
		return r.Last, true
	}
	const small, tries = 8, 6
	if len(v.Nodes) <= small {
		return 0, false
	}
	node = topology.NoNode
	random := r.Random
	for range tries {
		random = random*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		i := int(random >> 32 * uint64(len(v.Nodes)) >> 32)
		switch {
		case i == node || !serves(v, r, i, now):
		case node == topology.NoNode:
			node = i
		case load.InFlight(i) < load.InFlight(node):
			return i, true
		default:
			return node, true
		}
	}
	return 0, false
}

func serves(v *topology.View, r *Request, i int, now time.Duration) bool {
	if !usable(v, r, i) {
		return false
	}
	miss, _ := fit(v, r, i, now)
	return miss == ReasonNone
}

// pick chooses among nodes that may all serve r: the less loaded of two taken
// at random, which spreads load almost as well as the least loaded of all
// without making every caller run to the same node (Mitzenmacher, The Power of
// Two Choices in Randomized Load Balancing, 2001).
func pick(r *Request, load Load, candidates uint64) int {
	n := uint64(bits.OnesCount64(candidates))
	first := r.Random >> 32 * n >> 32
	node := nth(candidates, first)
	if n > 1 {
		// The second choice is one of the other n-1.
		second := (first + 1 + r.Random&0xffffffff*(n-1)>>32) % n
		if other := nth(candidates, second); load.InFlight(other) < load.InFlight(node) {
			return other
		}
	}
	return node
}

// nth returns the index of the k-th set bit, counted from zero.
func nth(set, k uint64) int {
	for ; k > 0; k-- {
		set &= set - 1
	}
	return bits.TrailingZeros64(set)
}
