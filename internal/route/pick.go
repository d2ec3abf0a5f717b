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

// tried finds an ejected replica for a request that may go to one.
func tried(v *topology.View, r *Request, d *demand, now time.Duration) (Decision, bool) {
	if !r.Trial {
		return Decision{}, false
	}
	for rest := usable(v, r) & v.Ejected; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		if miss, _ := fit(v, r, d, i, now); miss == ReasonNone {
			return Decision{Action: Go, Reason: Trial, Node: i}, true
		}
	}
	return Decision{}, false
}

// quick finds a replica for r without looking at all of them: the one that the
// session read from last, which keeps reads monotonic and caches warm; in a
// large cluster else two taken at random, as pick would. It may find none where
// there is one.
func quick(v *topology.View, r *Request, d *demand, load Load, now time.Duration) (node int, ok bool) {
	serves := func(i int) bool {
		miss, _ := fit(v, r, d, i, now)
		return miss == ReasonNone
	}
	best := first(v, usable(v, r))
	if r.Last != topology.NoNode && best&bit(r.Last) != 0 && serves(r.Last) {
		return r.Last, true
	}
	const small, tries = 8, 6
	if len(v.Nodes) <= small || r.Policy != LeastLoaded || v.Uneven&best != 0 {
		return 0, false
	}
	node = topology.NoNode
	random := r.Random
	for range tries {
		random = random*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		i := int(random >> 32 * uint64(len(v.Nodes)) >> 32)
		switch {
		case i == node || best&bit(i) == 0 || !serves(i):
		case node == topology.NoNode:
			node = i
		default:
			return lighter(v, load, node, i), true
		}
	}
	return 0, false
}

// pick chooses among nodes that may all serve r, of the best tier that there is.
func pick(v *topology.View, r *Request, load Load, candidates uint64) int {
	candidates = first(v, candidates)
	if r.Last != topology.NoNode && candidates&bit(r.Last) != 0 {
		return r.Last
	}
	if r.Policy == RoundRobin {
		// Steps of the golden ratio spread over any shares evenly, and need nothing
		// to be kept of the steps before. So do every second of them, or every
		// third: a remainder of Turn would send all reads to one node, where each
		// comes after a write.
		const golden = 0x9E3779B97F4A7C15
		return drawn(v, candidates, r.Turn*golden)
	}
	// The less loaded of two taken at random spreads load almost as well as the
	// least loaded of all, without making every caller run to the same node
	// (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
	one := drawn(v, candidates, r.Random)
	if rest := candidates &^ bit(one); rest != 0 {
		return lighter(v, load, one, drawn(v, rest, r.Random<<32|r.Random>>32))
	}
	return one
}

// first returns those of the set that are of the best tier that there is.
func first(v *topology.View, set uint64) uint64 {
	for _, tier := range v.Tiers {
		if best := set & tier; best != 0 {
			return best
		}
	}
	return 0
}

// lighter returns which of two nodes is to be asked: one, unless other is
// clearly less loaded for its share. What counts is how long the calls in flight
// are going to take. Averages that differ by little, or are not known, count as
// the same: else one of two idle nodes would get all reads, and the other none
// that could show it to be as quick.
func lighter(v *topology.View, load Load, one, other int) int {
	const little = time.Millisecond
	m, n := &v.Nodes[one], &v.Nodes[other]
	a, b := m.Latency, n.Latency
	same := a == 0 || b == 0 || 4*a < 5*b && 4*b < 5*a || a < b+little && b < a+little
	if same {
		a, b = 1, 1
	}
	x, y := float64(load.InFlight(one)), float64(load.InFlight(other))
	if same && x*n.Share <= y*m.Share {
		return one // it was drawn as often as its share says, and has no more than that
	}
	if (x+1)*float64(a)*n.Share > (y+1)*float64(b)*m.Share {
		return other
	}
	return one
}

// drawn returns one of the nodes, each as likely as its share says. Of random
// the upper bits count.
func drawn(v *topology.View, set, random uint64) int {
	if v.Uneven&set == 0 {
		return nth(set, random>>32*uint64(bits.OnesCount64(set))>>32)
	}
	total := 0.0
	for rest := set; rest != 0; rest &= rest - 1 {
		total += v.Nodes[bits.TrailingZeros64(rest)].Share
	}
	point := float64(random>>11) / (1 << 53) * total
	node := topology.NoNode
	for rest := set; rest != 0; rest &= rest - 1 {
		node = bits.TrailingZeros64(rest)
		if point -= v.Nodes[node].Share; point < 0 {
			break
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
