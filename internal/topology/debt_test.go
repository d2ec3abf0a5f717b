package topology

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// owes checks what a node owes.
func (tr *tracked) owes(when string, node int, want Position) {
	tr.t.Helper()
	if got := tr.view.Nodes[node].Owes; got != want {
		tr.t.Errorf("%s: node %d owes %v, want %v", when, node, got, want)
	}
}

func (tr *tracked) join(name string) (place int, id uint32) {
	place, id = tr.Join(Member{Name: name})
	tr.view = tr.Next()
	return place, id
}

func TestNodesToBeginWithOweNothing(t *testing.T) {
	tr := track(t)
	for i := range tr.view.Nodes {
		tr.owes("before anything is known", i, Position{})
	}
	tr.primary(a, 0, Position{1, 1000})
	tr.replica(b, 0, Position{1, 100})
	tr.owes("seen for the first time, and far behind", b, Position{})
}

func TestNodeThatJoinsOwes(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 1000})
	tr.replica(b, ms, Position{1, 1100}) // the primary has gone on since it was asked
	place, _ := tr.join("d")
	tr.owes("joined", place, Position{1, 1100})
	tr.replica(place, 2*ms, Position{1, 1099})
	tr.owes("one short", place, Position{1, 1100})
	tr.primary(a, 3*ms, Position{1, 5000})
	tr.owes("others go on", place, Position{1, 1100})
	tr.replica(place, 4*ms, Position{1, 1100})
	tr.owes("there", place, Position{})
}

func TestNodeInAnotherRunOwes(t *testing.T) {
	tr := track(t)
	run := func(incarnation int64, at int, lsn LSN) {
		tr.observe(Observation{Node: b, Start: ms * 10, Role: Replica, Position: Position{1, lsn}, Incarnation: incarnation})
	}
	tr.primary(a, 0, Position{1, 1000})
	run(1, 0, 1000)
	tr.down(b, 2*ms)
	tr.owes("down", b, Position{})
	run(2, 3, 400)
	tr.owes("restarted", b, Position{1, 1000})
	tr.primary(a, 20*ms, Position{1, 2000})
	run(3, 4, 300)
	tr.owes("restarted again before it had it all", b, Position{1, 1000})
	run(3, 5, 1000)
	tr.owes("there", b, Position{})
	run(3, 6, 900) // the same run: its processes were restarted
	tr.owes("recovered from a crash", b, Position{1, 2000})
}

func TestDebtOverAFailover(t *testing.T) {
	t.Run("kept", func(t *testing.T) {
		tr := track(t)
		tr.primary(a, 0, Position{1, 1000})
		tr.replica(b, 0, Position{1, 1000})
		place, _ := tr.join("d")
		tr.down(a, ms)
		tr.promoted(b, 2*ms, Position{2, 1200}, 1000)
		tr.replica(place, 3*ms, Position{2, 999})
		tr.owes("behind the switch", place, Position{1, 1000})
		tr.replica(place, 4*ms, Position{2, 1000})
		tr.owes("at the switch", place, Position{})
	})
	t.Run("lost", func(t *testing.T) {
		tr := track(t)
		tr.primary(a, 0, Position{1, 1000})
		tr.replica(b, 0, Position{1, 900})
		place, _ := tr.join("d")
		tr.owes("joined", place, Position{1, 1000})
		tr.down(a, ms)
		tr.promoted(b, 2*ms, Position{2, 1200}, 900)
		tr.replica(place, 3*ms, Position{2, 1100})
		tr.owes("what it owes was lost", place, Position{2, 1200})
		tr.replica(place, 4*ms, Position{2, 1200})
		tr.owes("it has what the new primary had", place, Position{})
	})
	t.Run("nobody knows", func(t *testing.T) {
		tr := track(t)
		tr.primary(a, 0, Position{1, 1000})
		place, _ := tr.join("d")
		tr.down(a, ms)
		tr.primary(c, 2*ms, Position{4, 3000}) // nobody saw how it came to that
		tr.replica(place, 3*ms, Position{4, 2000})
		tr.owes("its debt cannot be compared", place, Position{4, 3000})
		tr.replica(place, 4*ms, Position{4, 3000})
		tr.owes("there", place, Position{})
	})
	t.Run("promoted itself", func(t *testing.T) {
		tr := track(t)
		tr.primary(a, 0, Position{1, 1000})
		place, _ := tr.join("d")
		tr.replica(place, ms, Position{1, 800})
		tr.down(a, 2*ms)
		tr.promoted(place, 3*ms, Position{2, 900}, 800)
		tr.elected(place)
		tr.owes("whatever it lacks is lost", place, Position{})
	})
}

func TestPlacesAreUsedAgain(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 1000})
	tr.replica(b, 0, Position{1, 1000})
	tr.replica(c, 0, Position{1, 1000})
	was := tr.view.Nodes[b].ID
	before := tr.view
	tr.view = tr.Leave(b)
	if n := tr.view.Nodes[b]; n.State != Gone || n.ID != 0 || tr.view.Replicas != 1<<c {
		t.Errorf("after it has left the node is %+v, replicas %b", n, tr.view.Replicas)
	}
	tr.proves(b, Position{1, 1}, Unknown)
	if before.Nodes[b].State != Up {
		t.Error("an older view has lost the node too")
	}
	place, id := tr.join("d")
	if n := tr.view.Nodes[b]; place != b || id == was || id == 0 || n.ID != id || n.Name != "d" || n.State != Unseen || n.Role != RoleUnknown || n.Incarnation != 0 || !n.Position.IsZero() {
		t.Errorf("joined as %d with ID %d (before: %d), and begins as %+v", place, id, was, n)
	}
	place, _ = tr.join("e")
	if place != 3 {
		t.Errorf("the next one has place %d, want 3", place)
	}
	ids := map[uint32]bool{}
	for range 1000 {
		place, id := tr.join("f")
		if ids[id] || place != 4 {
			t.Fatalf("place %d, ID %d (given before: %v)", place, id, ids[id])
		}
		ids[id] = true
		tr.view = tr.Leave(place)
	}
}

func TestPrimaryLeaves(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 1000})
	tr.replica(b, 0, Position{1, 1000})
	tr.elected(a)
	tr.view = tr.Leave(a)
	tr.elected(NoNode)
	if tr.view.Timeline != 1 || tr.view.Newest != (Position{1, 1000}) {
		t.Errorf("with the primary what was known of its log has left: timeline %d, newest %v", tr.view.Timeline, tr.view.Newest)
	}
	place, _ := tr.join("a again")
	tr.elected(NoNode)
	tr.primary(place, ms, Position{1, 1100})
	tr.elected(place)
	tr.owes("a primary has all there is", place, Position{})
	tr.stale(b, 2*ms, 2*ms) // measured by the same log, whoever tells of it
}

func TestOneOfTwoPrimariesLeaves(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 1000})
	tr.primary(b, 0, Position{1, 1000})
	if !tr.view.SplitBrain {
		t.Fatal("two primaries on one timeline are no split brain")
	}
	tr.view = tr.Leave(a)
	tr.elected(b)
}

func TestTwins(t *testing.T) {
	tr := track(t)
	same := func(node int, at int, role Role) {
		tr.view = tr.Observe(Observation{Node: node, Start: ms, SystemID: 7, Incarnation: 77, Role: role, Position: Position{1, 1000}})
	}
	twin := func(when string, node int, want bool) {
		t.Helper()
		if n := tr.view.Nodes[node]; (n.State == Twin) != want || want && n.Err == nil {
			t.Errorf("%s: node %s is %v (%v)", when, n.Name, n.State, n.Err)
		}
	}
	same(b, 0, Primary)
	tr.elected(b)
	same(a, 1, Primary) // whoever comes first in the list is used
	tr.elected(a)
	twin("b after a", b, true)
	same(b, 2, Primary)
	tr.elected(a)
	twin("b again", b, true)
	same(c, 3, Primary)
	twin("a third", c, true)
	tr.elected(a)
	tr.proves(b, Position{1, 1000}, Unknown)

	// Without the first, the next is used when it is looked at.
	tr.down(a, 5*ms)
	same(b, 6, Primary)
	tr.elected(b)
	twin("b for a", b, false)
	same(c, 7, Primary)
	twin("c for b", c, true)
	same(a, 8, Primary)
	tr.elected(a)
	twin("a is back", b, true)

	// The name leads elsewhere now.
	tr.replica(b, 9*ms, Position{1, 1000})
	twin("b moved", b, false)
	if n := tr.view.Nodes[b]; n.Role != Replica || tr.view.Replicas != 1<<b {
		t.Errorf("b moved to a replica: %v, replicas %b", n.Role, tr.view.Replicas)
	}
	tr.view = tr.Leave(a)
	same(c, 10, Primary)
	tr.elected(c)
}

// All that an observation has of a server's clock is which run it is: one whose
// clock is a year off is judged like any other.
func TestClocksOfServersDoNotMatter(t *testing.T) {
	const year = 365 * 24 * 3600 * 1_000_000 // as incarnations count
	judge := func(off ...int64) string {
		tr := NewTracker(Rules{Interval: 200 * ms})
		for _, name := range []string{"a", "b", "c"} {
			tr.Join(Member{Name: name})
		}
		var said strings.Builder
		for step := range 40 {
			at := time.Duration(step) * 50 * ms
			for i := range off {
				o := Observation{Node: i, Start: at, SystemID: 7, Incarnation: 1_800_000_000_000_000 + off[i] + int64(i), Role: Replica, Position: Position{1, LSN(100 + 10*step - 15*i)}}
				if i == 0 {
					o.Role = Primary
				}
				if i == 2 && step >= 20 { // it was restarted, by its clock before it began
					o.Incarnation -= 2 * year
				}
				v := tr.Observe(o)
				for k := range v.Nodes {
					age, known := v.Nodes[k].Staleness(at)
					fmt.Fprintln(&said, v.Primary, v.SplitBrain, v.Nodes[k].State, age, known, v.Nodes[k].Delay, v.Nodes[k].Owes, v.Nodes[k].Since, v.Prove(k, Position{1, 200}))
				}
			}
		}
		return said.String()
	}
	want := judge(0, 0, 0)
	for _, off := range [][]int64{{year, 0, 0}, {0, -year, year}, {-year, year, 10 * year}} {
		if judge(off...) != want {
			t.Errorf("with clocks off by %v microseconds the nodes are judged otherwise", off)
		}
	}
}
