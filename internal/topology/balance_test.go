package topology

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHolds(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name string
		ups  []time.Duration // when the node came up
		free time.Duration   // after the last of them it is free again
	}{
		{"never seen", nil, 0},
		{"came up", []time.Duration{0}, 0},
		{"gone once", []time.Duration{0, s}, 0},
		{"gone twice", []time.Duration{0, s, 2 * s}, 100 * ms},
		{"three times", []time.Duration{0, s, 2 * s, 3 * s}, 200 * ms},
		{"six times", []time.Duration{0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s}, 1600 * ms},
		{"seven times", []time.Duration{0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s}, 3200 * ms},
		{"eight times", []time.Duration{0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s, 8 * s}, holdMost},
		{"for ever", flaps(1000), holdMost},
		{"calm in between", []time.Duration{0, s, 2 * s, 2*s + calm}, 0},
		{"nearly calm", []time.Duration{0, s, 2 * s, 2*s + calm - 1}, 200 * ms},
		{"at its first time again", []time.Duration{0, s, 2 * s, 2*s + calm, 3*s + calm}, 0},
		{"at its second time again", []time.Duration{0, s, 2 * s, 2*s + calm, 3*s + calm, 4*s + calm}, 100 * ms},
	} {
		var u ups
		last := time.Duration(0)
		for _, at := range test.ups {
			u.note(at)
			last = at
		}
		if u.held(last + test.free) {
			t.Errorf("%s: held %v after it came up, want it free", test.name, test.free)
		}
		if test.free > 0 && !u.held(last+test.free-1) {
			t.Errorf("%s: free just before %v, want it held until then", test.name, test.free)
		}
	}
}

func flaps(times int) []time.Duration {
	at := make([]time.Duration, times)
	for i := range at {
		at[i] = time.Duration(i) * time.Second
	}
	return at
}

// A node is held by what its probes say, and free again without a further one of
// its own: those of other nodes bring the time.
func TestHeldNodeInAView(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(c, 0, Position{1, 100})
	at := time.Duration(0)
	for range 3 {
		tr.replica(b, at, Position{1, 100})
		if tr.view.Nodes[b].Held != (at == 200*ms) {
			t.Errorf("at %v Held is %v", at, tr.view.Nodes[b].Held)
		}
		tr.down(b, at+50*ms)
		at += 100 * ms
	}
	tr.replica(b, 300*ms, Position{1, 100}) // for 200 ms
	if v := tr.view; !v.Nodes[b].Held || v.Tiers != [Tiers]uint64{1 << c, 0, 1 << b} {
		t.Errorf("Held is %v, tiers %b, want the other replica before it", v.Nodes[b].Held, v.Tiers)
	}
	tr.primary(a, 499*ms, Position{1, 100})
	if !tr.view.Nodes[b].Held {
		t.Error("free after 199 ms")
	}
	tr.primary(a, 500*ms, Position{1, 100})
	if v := tr.view; v.Nodes[b].Held || v.Tiers[0] != 1<<b|1<<c {
		t.Errorf("after 200 ms Held is %v, tiers %b", v.Nodes[b].Held, v.Tiers)
	}
}

func TestPaces(t *testing.T) {
	type report struct {
		at     time.Duration
		served uint64
		busy   time.Duration
		want   time.Duration
	}
	for _, test := range []struct {
		name    string
		ejected bool
		reports []report
	}{
		{"no calls", false, []report{{0, 0, 0, 0}, {1, 0, 0, 0}}},
		{"the first calls set it", false, []report{{0, 4, 40 * ms, 10 * ms}}},
		{"one call of another length", false, []report{{0, 4, 40 * ms, 10 * ms}, {1, 5, 60 * ms, 12 * ms}}},
		{"as many as the memory", false, []report{{0, 1, 10 * ms, 10 * ms}, {1, 5, 90 * ms, 15 * ms}}},
		{"ejected, one call weighs a third", true, []report{{0, 1, 10 * ms, 10 * ms}, {1, 2, 50 * ms, 20 * ms}}},
		{"no call for a while", false, []report{{0, 1, 10 * ms, 10 * ms}, {forget, 1, 10 * ms, 10 * ms}}},
		{"no call for too long", false, []report{{0, 1, 10 * ms, 10 * ms}, {forget + 1, 1, 10 * ms, 0}}},
		{"and then one", false, []report{{0, 1, 10 * ms, 10 * ms}, {forget + 1, 1, 10 * ms, 0}, {forget + 2, 2, 15 * ms, 5 * ms}}},
		{"a call now and then", false, []report{{0, 1, 10 * ms, 10 * ms}, {forget, 2, 20 * ms, 10 * ms}, {2 * forget, 2, 20 * ms, 10 * ms}}},
	} {
		var p pace
		n := Node{Ejected: test.ejected}
		for i, r := range test.reports {
			p.note(&n, Observation{Start: r.at, Served: r.served, Busy: r.busy})
			if n.Latency != r.want {
				t.Errorf("%s: after report %d the latency is %v, want %v", test.name, i+1, n.Latency, r.want)
			}
		}
	}
}

// balanced is a tracker of a primary, p, and replicas b, c and so on.
type balanced struct {
	*tracked
	served []uint64
	busy   []time.Duration
}

func balance(t *testing.T, r Rules, members ...Member) *balanced {
	t.Helper()
	r.Interval = 200 * ms
	tr := NewTracker(r)
	tr.Join(Member{Name: "p"})
	for _, m := range members {
		tr.Join(m)
	}
	bal := &balanced{tracked: &tracked{Tracker: tr, t: t}, served: make([]uint64, len(members)+1), busy: make([]time.Duration, len(members)+1)}
	bal.primary(0, 0, Position{1, 100})
	return bal
}

func replicas(names string) []Member {
	var members []Member
	for _, r := range names {
		members = append(members, Member{Name: string(r)})
	}
	return members
}

// took observes a replica whose calls, many of them, have each taken d. Zero is
// no calls.
func (bal *balanced) took(i int, at, d time.Duration) {
	const calls = 1_000_000
	if d > 0 {
		bal.served[i] += calls
		bal.busy[i] += calls * d
	}
	bal.observe(Observation{Node: i, Start: at, Role: Replica, Position: Position{1, 100}, Served: bal.served[i], Busy: bal.busy[i]})
}

// names returns the nodes of a set.
func (bal *balanced) names(set uint64) string {
	var s strings.Builder
	for i := range bal.view.Nodes {
		if set&(1<<i) != 0 {
			s.WriteString(bal.view.Nodes[i].Name)
		}
	}
	return s.String()
}

func (bal *balanced) ejected(when, want string) {
	bal.t.Helper()
	if got := bal.names(bal.view.Ejected); got != want {
		bal.t.Errorf("%s: %q ejected, want %q", when, got, want)
	}
	for i := range bal.view.Nodes {
		if n := &bal.view.Nodes[i]; n.State != Gone && n.Ejected != strings.Contains(want, n.Name) {
			bal.t.Errorf("%s: node %s has Ejected %v", when, n.Name, n.Ejected)
		}
	}
}

func TestEjection(t *testing.T) {
	for _, test := range []struct {
		name   string
		factor float64
		keep   float64
		took   []time.Duration // by each replica, b first
		want   string
	}{
		{"nobody is slow", 4, 0.5, []time.Duration{10 * ms, 11 * ms, 12 * ms}, ""},
		{"not slow enough", 4, 0.5, []time.Duration{10 * ms, 10 * ms, 40 * ms}, ""},
		{"one of three", 4, 0.5, []time.Duration{10 * ms, 10 * ms, 41 * ms}, "d"},
		{"one of two", 4, 0.5, []time.Duration{41 * ms, 10 * ms}, "b"},
		{"the only one", 4, 0.5, []time.Duration{time.Second}, ""},
		{"two slow ones of three are the median", 4, 0.5, []time.Duration{10 * ms, time.Second, 3 * time.Second}, ""},
		{"two slow ones of four", 4, 0.5, []time.Duration{10 * ms, 3 * time.Second, 10 * ms, time.Second}, "ce"},
		{"two slow ones of five", 4, 0.5, []time.Duration{time.Second, 3 * time.Second, 10 * ms, 10 * ms, 10 * ms}, "bc"},
		{"two of five, and one may go", 4, 0.8, []time.Duration{time.Second, 3 * time.Second, 10 * ms, 10 * ms, 10 * ms}, "c"},
		{"none may go", 4, 1, []time.Duration{time.Second, 10 * ms, 10 * ms}, ""},
		{"nearly all may go", 4, 0.01, []time.Duration{time.Second, 10 * ms, 10 * ms}, "b"},
		{"so slow and yet quick", 4, 0.5, []time.Duration{2 * ms, ms / 10, ms / 10}, ""},
		{"just not quick", 4, 0.5, []time.Duration{2*ms + 1, ms / 10, ms / 10}, "b"},
		{"of one nothing is known", 4, 0.5, []time.Duration{time.Second, 0, 10 * ms}, "b"},
		{"of all but one nothing is known", 4, 0.5, []time.Duration{time.Second, 0, 0}, ""},
		{"twice as slow", 2, 0.5, []time.Duration{21 * ms, 10 * ms, 10 * ms}, "b"},
		{"never", 0, 0.5, []time.Duration{time.Hour, 10 * ms, 10 * ms}, ""},
	} {
		bal := balance(t, Rules{EjectFactor: test.factor, KeepShare: test.keep}, replicas("bcdefgh"[:len(test.took)])...)
		for range 2 { // once nobody knew of the others
			for i, d := range test.took {
				bal.took(i+1, ms, d)
			}
		}
		bal.ejected(test.name, test.want)
		if v := bal.view; v.Tiers[2] != v.Ejected || v.Tiers[0] != v.Replicas&^v.Ejected {
			t.Errorf("%s: tiers %b with %b ejected", test.name, v.Tiers, v.Ejected)
		}
	}
}

func TestEjectedNodeMustBecomeMuchBetter(t *testing.T) {
	bal := balance(t, Rules{EjectFactor: 4, KeepShare: 0.5, SlowStart: time.Second}, replicas("bcd")...)
	all := func(at time.Duration, took ...time.Duration) {
		for i, d := range took {
			bal.took(i+1, at, d)
		}
	}
	all(ms, 10*ms, 10*ms, 10*ms)
	all(2*time.Second, 10*ms, 10*ms, 5000*ms)
	bal.ejected("one look at calls that took long", "")
	all(2100*ms, 10*ms, 10*ms, 50*ms)
	bal.ejected("five times as slow", "d")
	all(3*time.Second, 10*ms, 10*ms, 30*ms)
	bal.ejected("three times", "d") // three times is no reason to eject one
	all(4*time.Second, 10*ms, 10*ms, 15*ms)
	bal.ejected("half as much again", "")
	if n := bal.view.Nodes[3]; n.Share != firstShare || n.Since != 4*time.Second {
		t.Errorf("readmitted with share %v since %v, want it to start slowly", n.Share, n.Since)
	}
	all(5*time.Second, 10*ms, 10*ms, 30*ms)
	bal.ejected("three times again", "")
}

func TestEjectionEnds(t *testing.T) {
	start := func() *balanced {
		bal := balance(t, Rules{EjectFactor: 4, KeepShare: 0.5}, replicas("bcd")...)
		for range 2 {
			for i, d := range []time.Duration{10 * ms, 10 * ms, 100 * ms} {
				bal.took(i+1, ms, d)
			}
		}
		bal.ejected("at first", "d")
		return bal
	}
	bal := start()
	bal.down(3, 2*ms)
	bal.ejected("down", "")

	bal = start()
	bal.promoted(3, 2*ms, Position{2, 120}, 100)
	bal.ejected("promoted", "")

	bal = start()
	bal.down(1, 2*ms)
	bal.ejected("one other left", "d")
	bal.down(2, 3*ms)
	bal.ejected("no other left", "")

	// As many as are not to be ejected must be there when others go.
	bal = balance(t, Rules{EjectFactor: 4, KeepShare: 0.7}, replicas("bcdefgh")...)
	for range 2 {
		for i, d := range []time.Duration{10 * ms, 200 * ms, 10 * ms, 100 * ms, 10 * ms, 10 * ms, 10 * ms} {
			bal.took(i+1, ms, d)
		}
	}
	bal.ejected("two of seven", "ce")
	bal.down(1, 2*ms)
	bal.ejected("six left", "c") // e is the better of the two
	bal.down(3, 3*ms)
	bal.ejected("five left", "c")
	bal.down(5, 4*ms)
	bal.ejected("four left", "c")

	// With a factor below two it need not become better than the others.
	bal = balance(t, Rules{EjectFactor: 1.5, KeepShare: 0.5}, replicas("bcd")...)
	for _, third := range []time.Duration{16 * ms, 16 * ms, 13 * ms} {
		for i, d := range []time.Duration{10 * ms, 10 * ms, third} {
			bal.took(i+1, ms, d)
		}
		bal.took(1, ms, 10*ms)
	}
	bal.ejected("still slower", "d")
	bal.took(3, 2*ms, 10*ms)
	bal.ejected("as quick as the others", "")

	bal = start()
	for i := 1; i <= 3; i++ {
		bal.took(i, forget+2*ms, 0)
	}
	bal.ejected("nobody knows any more", "")

	bal = start()
	bal.view = bal.Leave(3)
	bal.ejected("left", "")
	place, _ := bal.Join(Member{Name: "e"})
	bal.view = bal.Next()
	if place != 3 || bal.view.Nodes[3].Latency != 0 {
		t.Errorf("the next node in place %d has latency %v of the one before", place, bal.view.Nodes[3].Latency)
	}
	bal.served[3], bal.busy[3] = 0, 0 // its own counters
	bal.took(3, 4*ms, 10*ms)
	bal.ejected("another in its place", "")
	if l := bal.view.Nodes[3].Latency; l != 10*ms {
		t.Errorf("the latency of another node in its place is %v, want its own 10 ms", l)
	}
}

func TestShares(t *testing.T) {
	weigh := func(weights ...float64) []Member {
		m := replicas("bcdefgh"[:len(weights)])
		for i, w := range weights {
			m[i].Weight = w
		}
		return m
	}
	for _, test := range []struct {
		name    string
		members []Member
		since   []time.Duration // when each came up
		at      time.Duration
		want    []float64
	}{
		{"no weights", weigh(0, 0, 0), nil, 5 * time.Second, []float64{1, 1, 1}},
		{"weights", weigh(0, 2, 4, 1), nil, 5 * time.Second, []float64{0.25, 0.5, 1, 0.25}},
		{"all start at once", weigh(1, 1), []time.Duration{0, 0}, 0, []float64{1, 1}},
		{"one has just come", weigh(1, 1), []time.Duration{0, 5 * time.Second}, 5 * time.Second, []float64{1, firstShare}},
		{"still at its least", weigh(1, 1), []time.Duration{0, 5 * time.Second}, 5100 * ms, []float64{1, firstShare}},
		{"half way", weigh(1, 1), []time.Duration{0, 5 * time.Second}, 5500 * ms, []float64{1, 0.5}},
		{"all the way", weigh(1, 1), []time.Duration{0, 5 * time.Second}, 6 * time.Second, []float64{1, 1}},
		{"half way, and heavy", weigh(1, 4), []time.Duration{0, 5 * time.Second}, 5500 * ms, []float64{0.5, 1}},
		{"half way, and light", weigh(4, 1), []time.Duration{0, 5 * time.Second}, 5500 * ms, []float64{1, 0.125}},
		{"alone", weigh(3), []time.Duration{5 * time.Second}, 5100 * ms, []float64{1}},
	} {
		bal := balance(t, Rules{SlowStart: time.Second}, test.members...)
		for i := range test.members {
			at := time.Duration(0)
			if test.since != nil {
				at = test.since[i]
			}
			bal.took(i+1, at, 0)
		}
		bal.primary(0, test.at, Position{1, 100})
		var got []float64
		uneven := uint64(0)
		for i := range test.members {
			n := &bal.view.Nodes[i+1]
			got = append(got, n.Share)
			if n.Share != 1 {
				uneven |= 1 << (i + 1)
			}
		}
		if fmt.Sprintf("%.4f", got) != fmt.Sprintf("%.4f", test.want) {
			t.Errorf("%s: shares %v, want %v", test.name, got, test.want)
		}
		if bal.view.Uneven != uneven {
			t.Errorf("%s: uneven %b, want %b", test.name, bal.view.Uneven, uneven)
		}
	}
}

func TestWhoeverIsDownSetsNoShare(t *testing.T) {
	bal := balance(t, Rules{}, Member{Name: "b", Weight: 8}, Member{Name: "c", Weight: 1}, Member{Name: "d", Weight: 2})
	for i := 1; i <= 3; i++ {
		bal.took(i, 0, 0)
	}
	bal.down(1, ms)
	if c, d := bal.view.Nodes[2].Share, bal.view.Nodes[3].Share; c != 0.5 || d != 1 {
		t.Errorf("with the heaviest down the others have shares %v and %v, want 0.5 and 1", c, d)
	}
}

func TestSlowStartIsForThoseThatWereGone(t *testing.T) {
	bal := balance(t, Rules{SlowStart: time.Second}, replicas("bc")...)
	bal.took(1, 0, 0)
	bal.took(2, 0, 0)
	for at := time.Duration(0); at < 3*time.Second; at += 200 * ms {
		bal.took(1, at, 0)
		bal.took(2, at, 0)
	}
	if bal.view.Uneven != 0 {
		t.Error("nodes that have been up for long have uneven shares")
	}
	bal.down(1, 3*time.Second)
	bal.took(1, 4*time.Second, 0)
	if n := bal.view.Nodes[1]; n.Share != firstShare {
		t.Errorf("a node that has just come back has share %v, want %v", n.Share, firstShare)
	}
	last := 0.0
	for at := 4 * time.Second; at <= 5*time.Second; at += 100 * ms {
		bal.took(1, at, 0)
		if s := bal.view.Nodes[1].Share; s < last {
			t.Errorf("the share fell from %v to %v", last, s)
		} else {
			last = s
		}
	}
	if last != 1 {
		t.Errorf("after SlowStart the share is %v, want 1", last)
	}
}

func TestTiers(t *testing.T) {
	bal := balance(t, Rules{EjectFactor: 4, KeepShare: 0.5}, Member{Name: "b"}, Member{Name: "c", Far: true}, Member{Name: "d"}, Member{Name: "e", Far: true})
	for range 2 {
		for i, d := range []time.Duration{10 * ms, 100 * ms, 10 * ms, 10 * ms} {
			bal.took(i+1, 0, d)
		}
	}
	got := [Tiers]string{}
	for i, set := range bal.view.Tiers {
		got[i] = bal.names(set)
	}
	if want := [Tiers]string{"bd", "e", "c"}; got != want {
		t.Errorf("tiers %q, want %q: near ones, far ones, ejected ones wherever they are", got, want)
	}
	bal.down(1, ms)
	bal.down(3, ms)
	if got := bal.names(bal.view.Replicas); got != "ce" {
		t.Errorf("replicas %q, want those that are up", got)
	}
}
