package topology

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

const (
	// holdFirst is how long a node that has gone and come back twice in a row is
	// held for; each further time doubles it, up to holdMost.
	holdFirst = 100 * time.Millisecond
	holdMost  = 5 * time.Second
	// calm is how long a node must stay up for what was before to be forgotten.
	calm = 30 * time.Second

	// smooth and smoothEjected are how many calls weigh as much as all before
	// them: of a replica that few calls go to, each counts for more.
	smooth        = 4
	smoothEjected = 2
	// enough is how many calls make an average that a replica is judged by, and
	// leap how many times the average so far a newer one counts for at most: one
	// call may have met a checkpoint.
	enough = 20
	leap   = 4
	// forget is when an average without a call to renew it says nothing more.
	forget = 10 * time.Second
	// quick is what nobody is ejected for, however quick the others are.
	quick = 2 * time.Millisecond
	// firstShare is what a node gets of its share when it has just come up.
	firstShare = 0.1
)

// ups is how often a node came up lately.
type ups struct {
	last  time.Duration
	times int // within calm of each other, the first not counted
	seen  bool
}

func (u *ups) note(now time.Duration) {
	switch {
	case !u.seen:
	case now-u.last < calm:
		u.times++
	default:
		u.times = 0
	}
	u.last, u.seen = now, true
}

// held reports whether the node is to be spared at time now. To have gone once
// is no reason: a node that comes back well is used at once.
func (u *ups) held(now time.Duration) bool {
	if u.times < 2 {
		return false
	}
	hold := holdMost
	if n := u.times - 2; n < bits.Len64(uint64(holdMost/holdFirst)) {
		hold = min(hold, holdFirst<<n)
	}
	return now < u.last+hold
}

// pace is what an average of a node's latency is made of.
type pace struct {
	served uint64
	busy   time.Duration
	at     time.Duration // when there last was a call to go by
	calls  int           // that the average is made of
}

// note brings n.Latency up to date with what o counts.
func (p *pace) note(n *Node, o Observation) {
	calls, took := o.Served-p.served, o.Busy-p.busy
	p.served, p.busy = o.Served, o.Busy
	switch {
	case calls == 0:
		if o.Start-p.at > forget {
			n.Latency, p.calls = 0, 0
		}
		return
	case n.Latency == 0:
		n.Latency = took / time.Duration(calls)
	default:
		weight := smooth
		if n.Ejected {
			weight = smoothEjected
		}
		mean := min(took/time.Duration(calls), leap*n.Latency)
		n.Latency += (mean - n.Latency) * time.Duration(calls) / (time.Duration(calls) + time.Duration(weight))
	}
	p.at, p.calls = o.Start, min(p.calls+int(min(calls, enough)), enough)
}

// balance says who of the replicas is to serve how much.
func (t *Tracker) balance() {
	for i := range t.view.Nodes {
		t.view.Nodes[i].Held = t.notes[i].ups.held(t.now)
	}
	t.eject()
	t.share()
}

// eject spares replicas that are up and yet much slower than the others: calls
// that go there by chance are what a percentile shows. The slowest come first,
// and enough are kept to carry the load.
func (t *Tracker) eject() {
	var known []time.Duration
	var up int
	for i := range t.view.Nodes {
		n := &t.view.Nodes[i]
		if n.State != Up || !n.Role.Follows() {
			n.Ejected = false
			continue
		}
		up++
		if t.notes[i].pace.calls >= enough {
			known = append(known, n.Latency)
		}
	}
	if t.rules.EjectFactor <= 0 || len(known) < 2 {
		t.readmit(func(*Node) bool { return true })
		return
	}
	slices.Sort(known)
	median := known[(len(known)-1)/2] // of two, the quicker: the other is to be judged
	slow := func(n *Node, factor float64) bool {
		return n.Latency > quick && float64(n.Latency) > factor*float64(median)
	}
	// One that was ejected must have become much better, or it comes and goes. It
	// need not become better than the others.
	t.readmit(func(n *Node) bool { return !slow(n, (1+t.rules.EjectFactor)/2) })
	spare := up - int(math.Ceil(t.rules.KeepShare*float64(up)))
	var in, out []*Node
	for i := range t.view.Nodes {
		n := &t.view.Nodes[i]
		switch {
		case n.Ejected:
			in = append(in, n)
		case n.State == Up && n.Role.Follows() && t.notes[i].pace.calls >= enough && slow(n, t.rules.EjectFactor):
			out = append(out, n)
		}
	}
	slowest := func(a, b *Node) int { return cmp.Compare(b.Latency, a.Latency) }
	slices.SortFunc(in, slowest)
	slices.SortFunc(out, slowest)
	for i, n := range in {
		if i >= spare { // others have gone since
			n.Ejected, n.Since = false, t.now
		}
	}
	for _, n := range out[:max(0, min(spare-len(in), len(out)))] {
		n.Ejected = true
	}
}

// readmit ends the ejection of those for which ok holds. They start slowly.
func (t *Tracker) readmit(ok func(*Node) bool) {
	for i := range t.view.Nodes {
		if n := &t.view.Nodes[i]; n.Ejected && ok(n) {
			n.Ejected, n.Since = false, t.now
		}
	}
}

// share turns weights and slow starts into shares.
func (t *Tracker) share() {
	most := 0.0
	for i := range t.view.Nodes {
		n := &t.view.Nodes[i]
		n.Share = n.Weight
		if n.Weight == 0 {
			n.Share = 1
		}
		if up := t.now - n.Since; up < t.rules.SlowStart {
			n.Share *= max(firstShare, float64(up)/float64(t.rules.SlowStart))
		}
		if n.State == Up && n.Role.Follows() {
			most = max(most, n.Share)
		}
	}
	for i := range t.view.Nodes {
		if n := &t.view.Nodes[i]; most > 0 {
			n.Share /= most
		}
	}
}
