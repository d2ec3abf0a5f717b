package route

import (
	"math/bits"
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
	case r.Write != ReasonNone && n.Role == topology.Primary && n.Position.Timeline < v.Timeline:
		d.Action, d.Reason = Fail, Overtaken
	case r.Write == ReasonNone && r.Node != v.Primary && !proven(v, r, r.Node):
		d.Action, d.Reason = Wait, NotFresh
		d.Watch |= sampler(v, r, d.Watch)
	default:
		d.Action, d.Reason = Go, Named
	}
	return d
}

// read finds a replica that may serve r; else says whether one is worth
// waiting for; else sends r to the primary.
func read(v *topology.View, r *Request, load Load, now time.Duration) Decision {
	d := demandOf(v, r)
	if t, ok := tried(v, r, &d, now); ok {
		return t
	}
	if i, ok := quick(v, r, &d, load, now); ok {
		return chosen(r, i)
	}
	up := usable(v, r)
	var candidates, soon uint64
	why := NoReplica
	if up == 0 && v.Subscribers&^r.Fit != 0 {
		why = Unpublished
	}
	for rest := up; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		var miss Reason
		var wait time.Duration
		if n := &v.Nodes[i]; d.lags(v, n, now) {
			miss, wait = Lagging, eta(n) // as fit would find: of many nodes all may lag
		} else {
			miss, wait = fit(v, r, &d, i, now)
		}
		switch {
		case miss == ReasonNone:
			candidates |= bit(i)
			continue
		case wait <= r.WaitLeft && r.WaitLeft > 0:
			soon |= bit(i)
		}
		why = max(why, miss)
	}
	switch {
	case candidates != 0:
		return chosen(r, pick(v, r, load, candidates))
	case soon != 0 && why != LostWrite:
		return Decision{Action: Wait, Reason: why, Node: topology.NoNode, Watch: soon | sampler(v, r, soon)}
	case up == 0 && r.Tried != 0:
		why = Elsewhere
	}
	p := primary(v, r, why)
	if p.Action == Fail && up != 0 && r.WaitLeft > 0 {
		// No primary to fall back on, but replicas may still get there.
		return Decision{Action: Wait, Reason: why, Node: topology.NoNode, Watch: up}
	}
	return p
}

// usable returns the replicas and subscribers that can be asked at all.
func usable(v *topology.View, r *Request) uint64 {
	set := (v.Replicas | v.Subscribers&r.Fit) &^ r.Tried
	if r.Group != 0 {
		set &= r.Group
	}
	return set
}

const never = time.Duration(1<<63 - 1)

// demand is what a request must see, as one position if it can be said so.
type demand struct {
	lsn topology.LSN
	// plain says that a replica on the view's timeline has all of it as soon as
	// it has replayed lsn: so it is in nearly all requests.
	plain bool
	age   time.Duration // how stale a replica may be
}

// lags reports whether n plainly lacks something, and nothing else is against
// it.
func (d *demand) lags(v *topology.View, n *topology.Node, now time.Duration) bool {
	return d.plain && n.Position.LSN < d.lsn && current(v, n) && n.FreshKnown && now-n.Fresh <= d.age
}

func demandOf(v *topology.View, r *Request) demand {
	age := r.MaxStaleness
	if age == 0 {
		age = never
	}
	if r.Level == Eventual {
		return demand{plain: true, age: age}
	}
	if r.MaxLag > 0 {
		age = -1 // there is more to look at
	}
	d := demand{lsn: r.Need.LSN, age: age, plain: !r.Scattered && r.Only == 0 && r.Prior.IsZero() && (r.Need.IsZero() || r.Need.Timeline == v.Timeline)}
	if r.Writes > 0 {
		d.plain = d.plain && r.Writes <= v.Floor.Writes && v.Floor.Position.Timeline == v.Timeline
		d.lsn = max(d.lsn, v.Floor.Position.LSN)
	}
	return d
}

// current reports whether n is on the view's timeline and owes nothing: then
// LSNs alone compare.
func current(v *topology.View, n *topology.Node) bool {
	return n.Position.Timeline == v.Timeline && n.Owes == topology.Position{}
}

// fit says why replica i may not serve r, and how long that may last. While
// there is no primary to read from instead, only a bound that the caller set
// counts, and that it is known how stale the replica is.
func fit(v *topology.View, r *Request, d *demand, i int, now time.Duration) (Reason, time.Duration) {
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
	if r.MaxLag > 0 && v.Primary != topology.NoNode && !within(v, n, r.MaxLag) {
		return TooStale, eta(n)
	}
	switch prove(v, r, d, i) {
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

// within reports whether n is at most lag bytes behind the newest sample.
func within(v *topology.View, n *topology.Node, lag uint64) bool {
	if n.Position.Timeline != v.Newest.Timeline {
		return false // numbers of two logs cannot be compared
	}
	return n.Position.LSN >= v.Newest.LSN || uint64(v.Newest.LSN-n.Position.LSN) <= lag
}

func eta(n *topology.Node) time.Duration {
	if n.Paused {
		return never
	}
	return n.Delay
}

// prove says whether node i has all that r must see.
func prove(v *topology.View, r *Request, d *demand, i int) topology.Proof {
	if r.Level == Eventual {
		return topology.Satisfied
	}
	n := &v.Nodes[i]
	if d.plain && current(v, n) && n.State == topology.Up {
		if n.Position.LSN >= d.lsn {
			return topology.Satisfied
		}
		return topology.Behind
	}
	if r.Scattered || r.Only != 0 && (i != r.Last || n.Incarnation != r.Only) {
		return topology.Unknown
	}
	worst := topology.Satisfied
	if !n.Owes.IsZero() && v.Prove(i, n.Owes) != topology.Satisfied {
		worst = topology.Behind
	}
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

// proven is prove for a node that the caller has named.
func proven(v *topology.View, r *Request, i int) bool {
	d := demandOf(v, r)
	return prove(v, r, &d, i) == topology.Satisfied
}

func weaker(a, b topology.Proof) topology.Proof {
	rank := [...]uint8{topology.Satisfied: 3, topology.Behind: 2, topology.Unknown: 1, topology.Lost: 0}
	if rank[b] < rank[a] {
		return b
	}
	return a
}

// sampler returns the primary, as a bit mask, when r, which waits for these nodes,
// waits for a sample of it: the position of a subscriber counts no further.
func sampler(v *topology.View, r *Request, nodes uint64) uint64 {
	if v.Primary != topology.NoNode && (r.Writes > v.Floor.Writes || r.MaxStaleness > 0 || r.Scattered || r.Only != 0 || nodes&v.Subscribers != 0) {
		return bit(v.Primary)
	}
	return 0
}

func bit(node int) uint64 { return 1 << uint(node) }

func all(v *topology.View) uint64 {
	if len(v.Nodes) >= topology.MaxNodes {
		return ^uint64(0)
	}
	return bit(len(v.Nodes)) - 1 // a free place among them does no harm
}
