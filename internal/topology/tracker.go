package topology

import (
	"fmt"
	"time"

	"github.com/pgtide/pgtide/internal/published"
)

// Rules are what a [Tracker] goes by.
type Rules struct {
	// Interval is the time between two probes of a node when nobody waits.
	Interval time.Duration
	// SlowStart is how long a node that has just come up takes to get its full
	// share. Zero gives it at once.
	SlowStart time.Duration
	// EjectFactor is how many times slower than the median a replica must be to
	// be ejected. Zero ejects none.
	EjectFactor float64
	// KeepShare is the share of the replicas that are never ejected.
	KeepShare float64
}

// Tracker folds observations into views. It must be used by one goroutine at a
// time; the views it returns may be shared freely.
type Tracker struct {
	rules Rules
	view  View
	ring  ring
	notes []notes // by place
	ids   uint32
	now   time.Duration // of the newest observation
	// offer is what the primary had for subscribers when it was last asked, at
	// outlet or past it.
	offer  *published.Offer
	outlet Position
}

// notes are what a Tracker keeps of a node beside the view.
type notes struct {
	target target
	pace   pace
	ups    ups
	intake intake
}

// target is a position of the primary that a replica is timed against.
type target struct {
	sample sample
	set    bool
	behind time.Duration // how long after the sample the replica still lacked it
	// passed is the newest sample there was when the replica was last observed.
	passed LSN
}

// NewTracker returns a Tracker without nodes.
func NewTracker(r Rules) *Tracker {
	t := &Tracker{rules: r}
	t.view.Primary = NoNode
	return t
}

// Join gives m a place in the views from the next one on, and an ID.
func (t *Tracker) Join(m Member) (place int, id uint32) {
	t.ids++
	n := Node{Member: m, ID: t.ids, Owes: t.furthest(t.view.Newest.Timeline)}
	for place = range t.view.Nodes {
		if t.view.Nodes[place].State == Gone {
			t.view.Nodes[place], t.notes[place] = n, notes{}
			return place, n.ID
		}
	}
	t.view.Nodes, t.notes = append(t.view.Nodes, n), append(t.notes, notes{})
	return len(t.view.Nodes) - 1, n.ID
}

// Leave frees a place and returns the view without its node.
func (t *Tracker) Leave(place int) *View {
	t.view.Nodes[place], t.notes[place] = Node{State: Gone}, notes{}
	t.view.Catalogs = nil
	t.catalogue()
	t.electPrimary()
	return t.Next()
}

// View returns the newest view.
func (t *Tracker) View() *View {
	v := t.view
	v.Nodes = append([]Node(nil), t.view.Nodes...)
	v.Arrange()
	return &v
}

// Learn takes in promotions that a server has told of, and returns the view
// that follows. When they were is not known.
func (t *Tracker) Learn(switches []Switch) *View {
	for _, s := range switches {
		t.view.History = t.view.History.With(s)
	}
	return t.Next()
}

// Next returns a view of its own, as after [Tracker.Join].
func (t *Tracker) Next() *View {
	t.view.Seq++
	t.balance()
	return t.View()
}

// Observe takes in o and returns the view that follows from it.
func (t *Tracker) Observe(o Observation) *View {
	n := &t.view.Nodes[o.Node]
	t.now, o.End = max(t.now, o.Start), max(o.Start, o.End)
	if o.Feed != nil {
		t.take(&o)
	}
	switch {
	case o.Err != nil:
		n.State, n.Err = Down, o.Err
		n.Misses++
		if !o.Silent {
			n.Misses = 0
		}
	case o.Feed != nil && t.notes[o.Node].intake.fault != nil:
		n.State, n.Role, n.Position, n.Err = Foreign, Subscriber, Position{}, t.notes[o.Node].intake.fault
	case t.foreign(o):
		n.State, n.Role, n.SystemID = Foreign, RoleUnknown, o.SystemID
		n.Err = fmt.Errorf("node %q belongs to another cluster: its system identifier is %d, that of the others is %d",
			n.Name, o.SystemID, t.view.SystemID)
	default:
		t.answered(n, o)
		t.pair(o.Node)
	}
	t.electPrimary()
	if o.Err == nil && o.Node == t.view.Primary {
		t.sampled(o)
		t.feed(o)
	}
	t.catalogue()
	t.refresh(o)
	return t.Next()
}

func (t *Tracker) foreign(o Observation) bool {
	if o.SystemID == 0 || o.Role == Subscriber {
		return false // the role may not ask; nothing is known against it
	}
	if t.view.SystemID == 0 {
		t.view.SystemID = o.SystemID
	}
	return o.SystemID != t.view.SystemID
}

// answered stores what a probe of a node of this cluster reported.
func (t *Tracker) answered(n *Node, o Observation) {
	same := n.Incarnation == o.Incarnation
	if o.Role == Replica && n.Role == Replica && o.Position.LSN < n.Position.LSN {
		// The server recovered from a crash of one of its processes: it does not
		// restart for that, and replays again from its last restart point.
		same = false
	}
	if o.Role == Replica && same && n.Role == Replica && o.Position.Timeline < n.Position.Timeline {
		// A replica whose link is cut no longer says which timeline it follows.
		// Within one incarnation it never leaves a timeline for an older one.
		o.Position.Timeline = n.Position.Timeline
	}
	if o.Role == Primary && same && n.Role == Replica && o.RecoveryEnd != 0 && o.Position.Timeline == n.Position.Timeline+1 {
		// The node may have followed other promotions since it was last seen, and
		// to know which timeline it left there must be only one that it can be.
		t.view.History = t.view.History.With(Switch{
			From: n.Position.Timeline, To: o.Position.Timeline, At: o.RecoveryEnd, After: n.Observed,
		})
	}
	if !same || n.Role != o.Role {
		t.notes[o.Node].target = target{}
		n.Delay, n.FreshKnown = 0, false
	}
	if !same && n.Incarnation != 0 && n.Owes.IsZero() {
		n.Owes = t.furthest(max(n.Position.Timeline, t.view.Newest.Timeline))
	}
	if n.State != Up && n.State != Twin {
		n.Since = o.Start
		t.notes[o.Node].ups.note(o.Start)
	}
	t.notes[o.Node].pace.note(n, o)
	n.State, n.Err, n.Misses = Up, nil, 0
	n.Role, n.Position, n.Receive, n.Paused = o.Role, o.Position, o.Receive, o.Paused
	n.Incarnation, n.SystemID, n.Version, n.Geometry = o.Incarnation, o.SystemID, o.Version, o.Geometry
	n.Observed = o.Start
	if o.Feed != nil {
		n.Err = t.notes[o.Node].intake.hindrance(n, o.Feed)
	}
	t.view.Timeline = max(t.view.Timeline, o.Position.Timeline)
}

// electPrimary finds the one node that may be written to. A node on an older
// timeline than the newest ever seen was left behind by a promotion: writing
// to it would be losing the write.
func (t *Tracker) electPrimary() {
	t.view.Primary, t.view.SplitBrain = NoNode, false
	for i := range t.view.Nodes {
		n := &t.view.Nodes[i]
		if n.State != Up || n.Role != Primary || n.Position.Timeline != t.view.Timeline {
			continue
		}
		if t.view.Primary != NoNode || t.view.SplitBrain {
			t.view.Primary, t.view.SplitBrain = NoNode, true
			continue
		}
		t.view.Primary = i
	}
}

// sampled records the primary's position.
func (t *Tracker) sampled(o Observation) {
	if old := t.ring.timeline; old != o.Position.Timeline {
		end, ancestor, known := t.view.History.end(old, o.Position.Timeline)
		since := t.view.History.since(old, o.Position.Timeline)
		t.ring.follow(o.Position.Timeline, end, since, known && ancestor && old != 0)
		t.view.Before, t.view.Floor = t.view.Floor, Floor{}
		// What was fresh by the old primary's log is measured by the new one's.
		for i := range t.view.Nodes {
			t.view.Nodes[i].FreshKnown, t.notes[i].target = false, target{passed: t.ring.newest()}
		}
	}
	t.ring.add(o.Start, o.Position, t.rules.Interval/2)
	t.view.Newest, t.view.NewestAt = o.Position, o.Start
	if f := &t.view.Floor; f.Position.IsZero() || o.Writes > f.Writes {
		*f = Floor{Writes: o.Writes, Position: o.Position}
	}
}

// refresh brings the staleness of replicas up to date: of all after a sample
// of the primary, else of the one observed.
func (t *Tracker) refresh(o Observation) {
	for i := range t.view.Nodes {
		if i == o.Node || o.Node == t.view.Primary {
			t.age(i, &t.view.Nodes[i])
		}
	}
	n := &t.view.Nodes[o.Node]
	if o.Err != nil || n.State != Up {
		return
	}
	if n.Role == Replica || n.Role == Subscriber && !n.Position.IsZero() {
		t.timeReplay(o.Node, n)
	}
	t.paid(o.Node, n)
}

// age matches a replica's position with the newest sample it covers.
func (t *Tracker) age(i int, n *Node) {
	if n.State != Up || !n.Role.Follows() {
		n.FreshKnown = false
		return
	}
	if n.Position.Timeline != t.ring.timeline &&
		t.view.History.Reaches(n.Position, Position{t.ring.timeline, n.Position.LSN}) != Satisfied {
		n.FreshKnown = false // its log is not the primary's log
		return
	}
	at, ok := t.ring.covered(n.Position.LSN)
	if !ok {
		n.FreshKnown = false
		return
	}
	// The replica only gains data within an incarnation, so what was proven
	// before stays proven.
	if !n.FreshKnown || at > n.Fresh {
		n.Fresh, n.FreshKnown = at, true
	}
}

// timeReplay measures how long replay takes: from a sample of the primary to the
// last moment the replica was seen without it. That is a lower bound whatever
// the probe interval, and zero for a replica that is never seen behind.
func (t *Tracker) timeReplay(i int, n *Node) {
	g, newest := &t.notes[i].target, t.ring.newest()
	if g.set && n.Position.LSN >= g.sample.lsn {
		n.Delay = g.behind
		*g = target{passed: newest}
	}
	if !g.set {
		s, ok := t.ring.after(n.Position.LSN)
		if !ok {
			if newest > g.passed {
				n.Delay = 0 // it has the newest sample and was never seen without it
			}
			g.passed = newest
			return
		}
		*g = target{sample: s, set: true}
	}
	g.passed = newest
	if d := n.Observed - g.sample.first; d > g.behind {
		g.behind = d
		n.Delay = max(n.Delay, d)
	}
}
