package route

import (
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// Decide says where r goes, given the view v at time now.
func Decide(v *topology.View, r *Request, load Load, now time.Duration) Decision {
	switch {
	case r.Target == ToNode:
		return named(v, r)
	case r.Write != ReasonNone && (r.Target != ToReplica || !vouchable(r.Write)):
		return primary(v, r, r.Write)
	case r.Target == ToPrimary:
		return primary(v, r, Forced)
	case r.Level == Primary:
		return primary(v, r, Strong)
	}
	if r.Group != 0 {
		return grouped(v, r, load, now)
	}
	return read(v, r, load, now)
}

// grouped is read within a group, and what follows when that has no replica.
func grouped(v *topology.View, r *Request, load Load, now time.Duration) Decision {
	d := read(v, r, load, now)
	if d.Action == Wait || d.Action == Go && d.Node != v.Primary {
		return d
	}
	switch r.Fallback {
	case Others:
		all := *r
		all.Group = 0
		return read(v, &all, load, now)
	case Nobody:
		return Decision{Action: Fail, Reason: OutsideGroup, Node: topology.NoNode}
	}
	return d
}

// vouchable reports whether the caller's word makes a read of a statement that
// was kept at the primary for want of certainty.
func vouchable(why Reason) bool { return why == Unclassified || why == Transaction }

func primary(v *topology.View, r *Request, why Reason) Decision {
	switch {
	case v.SplitBrain:
		if r.Write != ReasonNone {
			return Decision{Action: Fail, Reason: SplitBrain, Node: topology.NoNode, Watch: all(v)}
		}
	case v.Primary != topology.NoNode && r.Tried&bit(v.Primary) == 0:
		return Decision{Action: Go, Reason: why, Node: v.Primary}
	}
	return Decision{Action: Fail, Reason: NoPrimary, Node: topology.NoNode, Watch: all(v)}
}

func named(v *topology.View, r *Request) Decision {
	n := &v.Nodes[r.Node]
	d := Decision{Node: r.Node, Watch: bit(r.Node)}
	switch {
	case n.State != topology.Up || r.Tried&bit(r.Node) != 0:
		d.Action, d.Reason = Fail, NodeDown
	case r.Write == ReasonNone && r.Node != v.Primary && prove(v, r, r.Node) != topology.Satisfied:
		d.Action, d.Reason = Wait, NotFresh
		d.Watch |= sampler(v, r)
	default:
		d.Action, d.Reason = Go, Named
	}
	return d
}

// read finds a replica that may serve r; else says whether one is worth
// waiting for; else sends r to the primary.
func read(v *topology.View, r *Request, load Load, now time.Duration) Decision {
	if i, ok := quick(v, r, load, now); ok {
		return chosen(r, i)
	}
	var candidates, soon, up uint64
	why := NoReplica
	for i := range v.Nodes {
		if !usable(v, r, i) {
			continue
		}
		up |= bit(i)
		miss, eta := fit(v, r, i, now)
		switch {
		case miss == ReasonNone:
			candidates |= bit(i)
			continue
		case eta <= r.WaitLeft && r.WaitLeft > 0:
			soon |= bit(i)
		}
		why = max(why, miss)
	}
	switch {
	case candidates != 0:
		return chosen(r, pick(r, load, candidates))
	case soon != 0 && why != LostWrite:
		return Decision{Action: Wait, Reason: why, Node: topology.NoNode, Watch: soon | sampler(v, r)}
	case up == 0 && r.Tried != 0:
		why = Elsewhere
	}
	d := primary(v, r, why)
	if d.Action == Fail && up != 0 && r.WaitLeft > 0 {
		// No primary to fall back on, but replicas may still get there.
		return Decision{Action: Wait, Reason: why, Node: topology.NoNode, Watch: up}
	}
	return d
}

// usable reports whether node i is a replica that can be asked at all.
func usable(v *topology.View, r *Request, i int) bool {
	n := &v.Nodes[i]
	return n.State == topology.Up && n.Role == topology.Replica && r.Tried&bit(i) == 0 && (r.Group == 0 || r.Group&bit(i) != 0)
}

const never = time.Duration(1<<63 - 1)

// fit says why replica i may not serve r, and how long that may last. While
// there is no primary to read from instead, only a bound that the caller set
// counts, and that it is known how stale the replica is.
func fit(v *topology.View, r *Request, i int, now time.Duration) (Reason, time.Duration) {
	n := &v.Nodes[i]
	if r.MaxStaleness > 0 {
		switch age, known := n.Staleness(now); {
		case !known && !v.Newest.IsZero() && v.Prove(i, v.Newest) == topology.Unknown:
			return TooStale, never // its log is not the primary's
		case !known:
			return TooStale, eta(n)
		case age > r.MaxStaleness && (v.Primary != topology.NoNode || r.Level == Bounded):
			return TooStale, eta(n)
		}
	}
	if r.Level == Eventual {
		return ReasonNone, 0
	}
	switch prove(v, r, i) {
	case topology.Satisfied:
		return ReasonNone, 0
	case topology.Lost:
		return LostWrite, never
	case topology.Unknown:
		if r.Writes > v.Floor.Writes || r.Scattered || r.Only != 0 {
			return Unsampled, eta(n)
		}
		return Unproven, never
	}
	return Lagging, eta(n)
}

func eta(n *topology.Node) time.Duration {
	if n.Paused {
		return never
	}
	return n.Delay
}

// prove says whether node i has all that r must see.
func prove(v *topology.View, r *Request, i int) topology.Proof {
	if r.Level == Eventual {
		return topology.Satisfied
	}
	if r.Scattered || r.Only != 0 && (i != r.Last || v.Nodes[i].Incarnation != r.Only) {
		return topology.Unknown
	}
	worst := topology.Satisfied
	for _, p := range [2]topology.Position{r.Need, r.Prior} {
		if p.IsZero() {
			continue
		}
		switch proof := v.Prove(i, p); proof {
		case topology.Satisfied:
		case topology.Lost:
			return topology.Lost
		default:
			worst = weaker(worst, proof)
		}
	}
	if r.Writes > 0 {
		if r.Writes > v.Floor.Writes {
			return topology.Unknown
		}
		worst = weaker(worst, v.Prove(i, v.Floor.Position))
	}
	return worst
}

func weaker(a, b topology.Proof) topology.Proof {
	rank := [...]uint8{topology.Satisfied: 3, topology.Behind: 2, topology.Unknown: 1, topology.Lost: 0}
	if rank[b] < rank[a] {
		return b
	}
	return a
}

// sampler returns the primary, as a bit mask, when r waits for a sample of it.
func sampler(v *topology.View, r *Request) uint64 {
	if v.Primary != topology.NoNode && (r.Writes > v.Floor.Writes || r.MaxStaleness > 0 || r.Scattered || r.Only != 0) {
		return bit(v.Primary)
	}
	return 0
}

func bit(node int) uint64 { return 1 << uint(node) }

func all(v *topology.View) uint64 {
	if len(v.Nodes) >= MaxNodes {
		return ^uint64(0)
	}
	return bit(len(v.Nodes)) - 1
}
