package topology

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// tracked is a tracker of the nodes a, b and c, with what is the same in most
// observations filled in.
type tracked struct {
	*Tracker
	t    *testing.T
	view *View
}

const (
	a = iota
	b
	c
)

func track(t *testing.T) *tracked {
	t.Helper()
	tr := NewTracker(Rules{Interval: 200 * ms})
	for _, name := range []string{"a", "b", "c"} {
		tr.Join(Member{Name: name})
	}
	return &tracked{Tracker: tr, t: t, view: tr.View()}
}

// primary observes a primary.
func (tr *tracked) primary(node int, at time.Duration, p Position) *View {
	return tr.observe(Observation{Node: node, Start: at, Role: Primary, Position: p})
}

// replica observes a replica.
func (tr *tracked) replica(node int, at time.Duration, p Position) *View {
	return tr.observe(Observation{Node: node, Start: at, Role: Replica, Position: p})
}

// promoted observes what was a replica as the primary of a timeline that began
// at end.
func (tr *tracked) promoted(node int, at time.Duration, p Position, end LSN) *View {
	return tr.observe(Observation{Node: node, Start: at, Role: Primary, Position: p, RecoveryEnd: end})
}

func (tr *tracked) down(node int, at time.Duration) *View {
	tr.view = tr.Observe(Observation{Node: node, Start: at, Err: errors.New("no answer")})
	return tr.view
}

func (tr *tracked) observe(o Observation) *View {
	if o.SystemID == 0 {
		o.SystemID = 7
	}
	if o.Incarnation == 0 {
		o.Incarnation = 1
	}
	o.Incarnation = o.Incarnation*10 + int64(o.Node) // no two servers have the same
	tr.view = tr.Observe(o)
	return tr.view
}

// stale checks how stale the newest view takes a node to be at a time.
func (tr *tracked) stale(node int, at, want time.Duration) {
	tr.t.Helper()
	if got, known := tr.view.Nodes[node].Staleness(at); !known || got != want {
		tr.t.Errorf("at %v node %s is %v stale (known: %v), want %v", at, tr.view.Nodes[node].Name, got, known, want)
	}
}

func (tr *tracked) staleUnknown(node int, at time.Duration) {
	tr.t.Helper()
	if got, known := tr.view.Nodes[node].Staleness(at); known {
		tr.t.Errorf("at %v node %s is %v stale, want that not known", at, tr.view.Nodes[node].Name, got)
	}
}

func (tr *tracked) elected(want int) {
	tr.t.Helper()
	if tr.view.Primary != want || tr.view.SplitBrain {
		tr.t.Errorf("the primary is %d (split brain: %v), want %d", tr.view.Primary, tr.view.SplitBrain, want)
	}
}

func (tr *tracked) proves(node int, p Position, want Proof) {
	tr.t.Helper()
	if got := tr.view.Prove(node, p); got != want {
		tr.t.Errorf("node %s at %v: proof of %v is %v, want %v", tr.view.Nodes[node].Name, tr.view.Nodes[node].Position, p, got, want)
	}
}

func TestNewTrackerKnowsNothing(t *testing.T) {
	tr := track(t)
	tr.elected(NoNode)
	for i, n := range tr.view.Nodes {
		if n.State != Unseen || n.Role != RoleUnknown {
			t.Errorf("node %s is %v and %v before any observation", n.Name, n.State, n.Role)
		}
		tr.staleUnknown(i, 0)
		tr.proves(i, Position{1, 1}, Unknown)
	}
}

func TestViewsAreImmutable(t *testing.T) {
	tr := track(t)
	old := tr.primary(a, 0, Position{1, 100})
	nodes, seq := slices.Clone(old.Nodes), old.Seq
	tr.replica(b, ms, Position{1, 50})
	tr.promoted(b, 2*ms, Position{2, 60}, 50)
	if old.Seq != seq || !slices.EqualFunc(old.Nodes, nodes, func(m, n Node) bool { return m.Name == n.Name && m.Position == n.Position }) {
		t.Error("an observation changed an older view")
	}
	if got := tr.view.Seq; got != seq+2 {
		t.Errorf("Seq is %d after two observations more, want %d", got, seq+2)
	}
}

func TestElectsTheNewestTimeline(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.elected(a)
	tr.replica(b, 10*ms, Position{1, 100})
	tr.promoted(b, 20*ms, Position{2, 120}, 100)
	tr.elected(b)
	tr.primary(a, 30*ms, Position{1, 500}) // it has not noticed
	tr.elected(b)
	tr.down(b, 40*ms)
	tr.elected(NoNode) // and it is never asked to take over again
	tr.primary(a, 50*ms, Position{1, 600})
	tr.elected(NoNode)
	tr.primary(b, 60*ms, Position{2, 130})
	tr.elected(b)
}

func TestAReplicaTellsOfAPromotion(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(c, 10*ms, Position{2, 100}) // follows somebody who is not a
	tr.elected(NoNode)
}

func TestSplitBrain(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.replica(c, 0, Position{1, 100})
	for node := range 3 {
		tr.primary(node, 10*ms, Position{1, 100})
	}
	if !tr.view.SplitBrain || tr.view.Primary != NoNode {
		t.Fatalf("three primaries on one timeline: primary %d, split brain %v", tr.view.Primary, tr.view.SplitBrain)
	}
	tr.down(a, 20*ms)
	if !tr.view.SplitBrain {
		t.Error("two of the three are still there")
	}
	tr.down(b, 30*ms)
	tr.elected(c)

	tr.primary(b, 40*ms, Position{1, 100})
	tr.promoted(c, 50*ms, Position{2, 100}, 0)
	tr.elected(c) // their timelines order them again
}

func TestForeignNode(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.observe(Observation{Node: b, Start: ms, SystemID: 8, Role: Primary, Position: Position{9, 900}})
	tr.elected(a)
	n := tr.view.Nodes[b]
	if n.State != Foreign || n.Role != RoleUnknown {
		t.Errorf("the node of another cluster is %v and %v", n.State, n.Role)
	}
	for _, part := range []string{`"b"`, "8", "7"} {
		if !strings.Contains(n.Err.Error(), part) {
			t.Errorf("the error %q does not name %s", n.Err, part)
		}
	}
	tr.proves(b, Position{1, 50}, Unknown)
	tr.staleUnknown(b, ms)
	if tr.view.Timeline != 1 {
		t.Errorf("the timeline is %d: that of another cluster counts for nothing", tr.view.Timeline)
	}

	tr.replica(b, 2*ms, Position{1, 100}) // it was made anew, as a replica
	if n := tr.view.Nodes[b]; n.State != Up || n.Err != nil {
		t.Errorf("the node is %v, with error %v", n.State, n.Err)
	}
	tr.view = tr.Observe(Observation{Node: c, Start: 3 * ms, Incarnation: 1, Role: Replica, Position: Position{1, 90}})
	if n := tr.view.Nodes[c]; n.State != Up {
		t.Errorf("a node that may not tell its system identifier is %v", n.State)
	}
}

func TestDownAndBack(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 10*ms, Position{1, 100})
	tr.down(b, 20*ms)
	if n := tr.view.Nodes[b]; n.State != Down || n.Err == nil {
		t.Errorf("the node is %v, with error %v", n.State, n.Err)
	}
	tr.proves(b, Position{1, 100}, Unknown)
	tr.staleUnknown(b, 30*ms)
	tr.primary(a, 40*ms, Position{1, 200})
	tr.staleUnknown(b, 50*ms)
	tr.replica(b, 60*ms, Position{1, 150})
	tr.proves(b, Position{1, 150}, Satisfied)
	tr.stale(b, 60*ms, 60*ms)

	tr.down(a, 70*ms)
	tr.elected(NoNode)
	tr.stale(b, 1000*ms, 1000*ms) // without a primary to compare with, it grows
	tr.primary(a, 1100*ms, Position{1, 150})
	tr.elected(a)
}

func TestNewIncarnation(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 10*ms, Position{1, 100})
	tr.stale(b, 10*ms, 10*ms)
	tr.observe(Observation{Node: b, Start: 20 * ms, Incarnation: 2, Role: Replica, Position: Position{1, 40}})
	tr.staleUnknown(b, 20*ms)
	tr.proves(b, Position{1, 100}, Behind)
	if got := tr.view.Nodes[b].Incarnation; got != 20+b {
		t.Errorf("incarnation %d, want that of the second run", got)
	}
}

// A replica that loses one of its processes replays again from its last restart
// point, and its server counts as the same.
func TestPositionGoesBack(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 10*ms, Position{1, 100})
	tr.primary(a, 20*ms, Position{1, 200})
	tr.replica(b, 30*ms, Position{1, 200})
	tr.stale(b, 30*ms, 10*ms)
	tr.replica(b, 40*ms, Position{1, 150})
	tr.stale(b, 40*ms, 40*ms)
	tr.proves(b, Position{1, 200}, Behind)
}

func TestCutReplicaKeepsItsTimeline(t *testing.T) {
	tr := track(t)
	tr.replica(b, 0, Position{2, 450})
	tr.replica(b, 10*ms, Position{1, 450}) // the control file's
	if got := tr.view.Nodes[b].Position; got != (Position{2, 450}) {
		t.Errorf("the position is %v, want 2:1C2: a run of a server never leaves a timeline for an older one", got)
	}
	tr.observe(Observation{Node: b, Start: 20 * ms, Incarnation: 2, Role: Replica, Position: Position{1, 450}})
	if got := tr.view.Nodes[b].Position; got != (Position{1, 450}) {
		t.Errorf("the position is %v, want 1:1C2: another run may", got)
	}
}

// A replica that may not tell its timeline shows an LSN of timeline 2 as if it
// were of 1. It must not pass for one that has what timeline 1 lost.
func TestOldTimelineProvesNothingPastTheSwitch(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 450})
	tr.replica(b, 0, Position{1, 400})
	tr.promoted(b, 10*ms, Position{2, 420}, 400)
	tr.replica(c, 20*ms, Position{1, 500})
	tr.proves(c, Position{1, 400}, Satisfied)
	tr.proves(c, Position{1, 430}, Lost)
	tr.proves(c, Position{2, 410}, Unknown)
	tr.staleUnknown(c, 20*ms)

	unseen := track(t) // the same cluster, watched from later on
	unseen.primary(b, 0, Position{2, 510})
	unseen.replica(c, 10*ms, Position{1, 500})
	unseen.proves(c, Position{1, 430}, Unknown)
	unseen.proves(b, Position{1, 430}, Unknown)
	unseen.staleUnknown(c, 10*ms)
}

func TestProve(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.proves(a, Position{1, 5000}, Satisfied) // written since it was looked at
	tr.proves(b, Position{1, 100}, Satisfied)
	tr.proves(b, Position{1, 101}, Behind)
	tr.proves(b, Position{}, Satisfied)

	tr.promoted(b, 10*ms, Position{2, 120}, 100)
	tr.proves(b, Position{1, 100}, Satisfied)
	tr.proves(b, Position{1, 101}, Lost)
	tr.proves(b, Position{2, 9000}, Satisfied)
	tr.primary(a, 20*ms, Position{1, 300}) // no longer the primary
	tr.proves(a, Position{1, 100}, Satisfied)
	tr.proves(a, Position{1, 200}, Lost)
	tr.proves(a, Position{2, 110}, Unknown)
}

func TestPromotionOfARestartedNodeIsNotUnderstood(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.observe(Observation{Node: b, Start: 10 * ms, Incarnation: 2, Role: Primary, Position: Position{2, 200}, RecoveryEnd: 150})
	tr.elected(b)
	if len(tr.view.History) != 0 {
		t.Errorf("history is %v: where the recovery of another run ended says nothing of the promotion", tr.view.History)
	}
	tr.proves(b, Position{1, 50}, Unknown)
}

// The node may have followed timeline 2 when nobody looked, or have left 1 itself.
func TestPromotionPastAnUnseenTimelineIsNotUnderstood(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.promoted(b, 10*ms, Position{3, 200}, 150)
	tr.elected(b)
	if len(tr.view.History) != 0 {
		t.Errorf("history is %v, want none", tr.view.History)
	}
	tr.proves(b, Position{1, 120}, Unknown)
}

func TestFloor(t *testing.T) {
	tr := track(t)
	sample := func(at time.Duration, p Position, writes uint64) Floor {
		return tr.observe(Observation{Node: a, Start: at, Role: Primary, Position: p, Writes: writes}).Floor
	}
	for _, s := range []struct {
		at     time.Duration
		lsn    LSN
		writes uint64
		want   Floor
	}{
		{0, 100, 0, Floor{0, Position{1, 100}}},
		{10 * ms, 150, 0, Floor{0, Position{1, 100}}}, // nothing was written through here
		{20 * ms, 200, 3, Floor{3, Position{1, 200}}},
		{30 * ms, 250, 3, Floor{3, Position{1, 200}}}, // the least position that covers them
		{40 * ms, 300, 4, Floor{4, Position{1, 300}}},
	} {
		if got := sample(s.at, Position{1, s.lsn}, s.writes); got != s.want {
			t.Errorf("sample at %v: floor %v, want %v", s.at, got, s.want)
		}
	}
	tr.observe(Observation{Node: b, Start: 50 * ms, Role: Replica, Position: Position{1, 300}, Writes: 9})
	if got, want := tr.view.Floor, (Floor{4, Position{1, 300}}); got != want {
		t.Errorf("floor %v after an observation of a replica, want %v", got, want)
	}
	tr.observe(Observation{Node: b, Start: 60 * ms, Role: Primary, Position: Position{2, 310}, RecoveryEnd: 300, Writes: 4})
	if got, want := tr.view.Floor, (Floor{4, Position{2, 310}}); got != want {
		t.Errorf("floor %v after a failover, want %v", got, want)
	}
}
