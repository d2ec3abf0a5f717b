package topology

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	runs = flag.Int("topology.runs", 4000, "how many random schedules to compare with the oracle")
	seed = flag.Uint64("topology.seed", 0, "run only the schedule of this seed")
)

// record is a write: what the oracle knows of it and no tracker is told.
type record struct {
	id int
	Position
	at    time.Duration // when it was written
	count uint64        // the write counter once it had returned; zero if it never did
}

// server is a simulated node with its whole log.
type server struct {
	role        Role
	incarnation int64
	timeline    uint32
	log         []record
	replayed    int    // records of the log
	label       uint32 // the timeline it admits to, when it may not tell the real one
	paused      bool
	cut         bool // receives nothing
	unreachable bool // for pgtide
	upstream    int
	feeding     feeding // of a subscriber
	sends       int32   // the process that holds a subscriber's slot
	confirmed   LSN     // to it

	probing bool // a probe was sent
	start   time.Duration
	writes  uint64
	seen    []record // what was replayed when the last probe was answered
}

func (s *server) end() LSN {
	if s.replayed == 0 {
		return 0
	}
	return s.log[s.replayed-1].LSN
}

// oracle plays a cluster step by step and checks each view against the full
// history, in the dumbest way there is.
type oracle struct {
	rng     *rand.Rand
	hidden  bool // replicas may not tell their timeline
	now     time.Duration
	servers []*server
	tracker *Tracker
	view    *View
	records []record     // of all servers, lost ones too
	settled map[int]bool // writes that every node was proven to have
	ids     int
	writes  uint64 // the count of writes that have returned
	newest  uint32
	trace   []string
}

func newOracle(seed uint64) *oracle {
	o := &oracle{rng: rand.New(rand.NewPCG(seed, 0)), newest: 1, settled: map[int]bool{}}
	o.hidden = o.rng.IntN(2) == 0
	names := []string{"a", "b", "c", "d"}[:2+o.rng.IntN(3)]
	for range names {
		o.servers = append(o.servers, &server{role: Replica, incarnation: 1, timeline: 1, label: 1})
	}
	o.servers[0].role = Primary
	if o.rng.IntN(2) == 0 {
		names = append(names, "s")
		o.servers = append(o.servers, &server{role: Subscriber, incarnation: 1, feeding: feeding{mayTell: o.rng.IntN(2) == 0}})
	}
	o.tracker = NewTracker(Rules{Interval: 200 * ms})
	for _, name := range names {
		o.tracker.Join(Member{Name: name})
	}
	o.view = o.tracker.View()
	if s := o.servers[len(o.servers)-1]; s.role == Subscriber {
		o.connect(s, 0)
	}
	return o
}

func (o *oracle) say(format string, args ...any) {
	o.trace = append(o.trace, fmt.Sprintf("%6v ", o.now)+fmt.Sprintf(format, args...))
}

// prefix reports whether all of a is at the beginning of b.
func prefix(a, b []record) bool {
	return len(a) <= len(b) && (len(a) == 0 || a[len(a)-1].id == b[len(a)-1].id)
}

func (o *oracle) step() {
	if o.rng.IntN(3) == 0 {
		o.now += time.Duration(o.rng.IntN(150)) * ms
	}
	i := o.rng.IntN(len(o.servers))
	if o.servers[len(o.servers)-1].role == Subscriber && o.rng.IntN(4) == 0 {
		i = len(o.servers) - 1
	}
	s := o.servers[i]
	if s.role == Subscriber {
		o.stepSubscriber(i, s)
		return
	}
	switch p := o.rng.IntN(1000); {
	case p < 250:
		o.probe(i, s)
	case p < 450:
		o.answer(i, s)
	case p < 600:
		o.write(i, s)
	case p < 900:
		o.replicate(s)
	case p < 920:
		s.paused = !s.paused
	case p < 940:
		s.cut = !s.cut
	case p < 960:
		s.unreachable = !s.unreachable
	case p < 970:
		o.restart(i, s)
	case p < 985:
		o.promote(i, s)
	default:
		o.rejoin(i, s)
	}
}

func (o *oracle) probe(i int, s *server) {
	if !s.probing {
		s.probing, s.start, s.writes = true, o.now, o.writes
	}
}

// answer finishes a probe: what it reports was true later than its start.
func (o *oracle) answer(i int, s *server) {
	if !s.probing {
		return
	}
	s.probing = false
	ob := Observation{Node: i, Start: s.start, SystemID: 7, Incarnation: s.incarnation*8 + int64(i), Role: s.role, Writes: s.writes, End: o.now}
	switch {
	case s.unreachable:
		ob = Observation{Node: i, Start: s.start, Err: errors.New("no answer")}
	case s.role == Subscriber:
		s.seen = slices.Clone(s.log)
		ob.Feed = s.feed()
		ob.Incarnation += int64(ob.Feed.Worker) << 32
	default:
		s.seen = slices.Clone(s.log[:s.replayed])
		ob.Position = Position{s.timeline, s.end()}
		ob.Paused = s.paused
		if s.role == Replica && o.hidden {
			ob.Position.Timeline = s.label
		}
		if s.role == Primary {
			ob.RecoveryEnd = s.recoveryEnd()
			ob.Outlet = o.outlet(i, s)
		}
	}
	o.say("probe of %d since %v: %v at %v, error %v", i, ob.Start, ob.Role, ob.Position, ob.Err)
	o.view = o.tracker.Observe(ob)
}

// recoveryEnd is where the log of older timelines ends.
func (s *server) recoveryEnd() LSN {
	var end LSN
	for _, r := range s.log {
		if r.Timeline < s.timeline {
			end = r.LSN
		}
	}
	return end
}

// write writes at any node that takes itself for the primary.
func (o *oracle) write(i int, s *server) {
	if s.role != Primary {
		return
	}
	o.ids++
	r := record{id: o.ids, Position: Position{s.timeline, s.end() + 1 + LSN(o.rng.IntN(3))}, at: o.now}
	if i == o.view.Primary && o.rng.IntN(2) == 0 { // through pgtide
		o.writes++
		r.count = o.writes
	}
	s.log = append(s.log, r)
	s.replayed = len(s.log)
	o.records = append(o.records, r)
	o.say("write %d on %d at %v", r.id, i, r.Position)
}

// replicate brings a replica some of what its upstream has.
func (o *oracle) replicate(s *server) {
	if s.role != Replica {
		return
	}
	up := o.servers[s.upstream]
	if !s.cut && up.role == Primary && prefix(s.log, up.log) {
		s.timeline = up.timeline
		s.log = slices.Clone(up.log[:len(s.log)+o.rng.IntN(len(up.log)-len(s.log)+1)])
	}
	if !s.paused {
		s.replayed += o.rng.IntN(len(s.log) - s.replayed + 1)
	}
	if o.rng.IntN(20) == 0 {
		s.label = s.timeline // a restart point
	}
}

// restart runs a server anew, or only its processes: then it counts as the same.
func (o *oracle) restart(i int, s *server) {
	if s.role != Replica {
		return
	}
	if o.rng.IntN(2) == 0 {
		s.incarnation++
		s.seen = nil
	}
	s.replayed = o.rng.IntN(s.replayed + 1)
	o.say("restart of %d, incarnation %d, back to %v", i, s.incarnation, s.end())
}

// promote makes a replica the primary of a new timeline. The others may follow
// or not, and the old primary goes on as if nothing had happened.
func (o *oracle) promote(i int, s *server) {
	if s.role != Replica || o.newest >= 6 {
		return
	}
	if o.hidden && (s.timeline != o.newest || s.label != s.timeline) {
		return // nobody could tell which timeline it left
	}
	s.log = slices.Clone(s.log[:s.replayed])
	o.newest++
	s.role, s.timeline, s.label = Primary, o.newest, o.newest
	for _, other := range o.servers {
		if other != s && other.role == Replica && o.rng.IntN(3) > 0 {
			other.upstream = i
		}
	}
	o.say("promotion of %d at %v to timeline %d", i, s.end(), s.timeline)
}

// rejoin makes a node anew as a replica of the newest primary.
func (o *oracle) rejoin(i int, s *server) {
	for k, up := range o.servers {
		if k == i || up.role != Primary || up.timeline != o.newest {
			continue
		}
		s.role, s.timeline, s.label, s.upstream, s.sends = Replica, up.timeline, up.timeline, k, 0
		s.incarnation++
		s.log = slices.Clone(up.log[:o.rng.IntN(len(up.log)+1)])
		s.replayed, s.seen, s.cut, s.paused = len(s.log), nil, false, false
		o.say("%d joins %d at %v", i, k, s.end())
		return
	}
}

func contains(log []record, id int) bool {
	return slices.ContainsFunc(log, func(r record) bool { return r.id == id })
}

// check compares what the view claims with what is so.
func (o *oracle) check() error {
	if o.hidden && o.view.Timeline != o.newest {
		return nil // of a timeline that nobody has told of yet nothing can be known
	}
	if o.view.Primary == NoNode {
		return o.checkProofs(nil)
	}
	primary := o.servers[o.view.Primary]
	if primary.role != Primary || primary.incarnation*8+int64(o.view.Primary) != o.view.Nodes[o.view.Primary].Incarnation {
		return nil // made anew since it was looked at
	}
	for i, s := range o.servers {
		n := &o.view.Nodes[i]
		if n.State != Up || !n.Role.Follows() || !n.FreshKnown || s.seen == nil {
			continue
		}
		for _, r := range primary.log {
			if r.at < n.Fresh && !contains(s.seen, r.id) {
				return fmt.Errorf("node %d is taken for as fresh as %v but lacks write %d of %v at %v", i, n.Fresh, r.id, r.at, r.Position)
			}
		}
	}
	if f := o.view.Floor; f.Position.Timeline == primary.timeline {
		for _, r := range primary.log {
			if r.count != 0 && r.count <= f.Writes && r.LSN > f.Position.LSN {
				return fmt.Errorf("the floor %v does not cover write %d at %v, counted %d", f, r.id, r.Position, r.count)
			}
		}
	}
	if err := o.checkSettled(primary.log); err != nil {
		return err
	}
	return o.checkProofs(primary.log)
}

// checkSettled checks that nobody need carry a token once every node has what
// it stands for: a node that comes back with less owes it.
func (o *oracle) checkSettled(log []record) error {
	v := o.view
	for i, s := range o.servers {
		n := &v.Nodes[i]
		if n.State != Up || !n.Role.Follows() || s.seen == nil || !n.Owes.IsZero() && v.Prove(i, n.Owes) != Satisfied ||
			v.Prove(i, v.Newest) == Unknown { // its log is not the primary's: it is never called fresh
			continue
		}
		for _, r := range log {
			if o.settled[r.id] && !contains(s.seen, r.id) {
				return fmt.Errorf("node %d owes nothing and lacks write %d at %v, which every node had", i, r.id, r.Position)
			}
		}
	}
	for _, r := range o.records {
		all := true
		for i := range v.Nodes {
			n := &v.Nodes[i]
			all = all && n.Owes.IsZero() && v.Prove(i, r.Position) == Satisfied && (i == v.Primary || n.State == Up && n.Role.Follows())
		}
		if all {
			o.settled[r.id] = true
		}
	}
	return nil
}

func (o *oracle) checkProofs(log []record) error {
	head := Position{o.view.Timeline, ^LSN(0)}
	for _, r := range o.records {
		for i, s := range o.servers {
			have := s.seen
			if i == o.view.Primary {
				have = log
			}
			if o.view.Prove(i, r.Position) == Satisfied && (i == o.view.Primary || s.seen != nil) && !contains(have, r.id) {
				return fmt.Errorf("node %d at %v is said to have write %d at %v, and has not", i, o.view.Nodes[i].Position, r.id, r.Position)
			}
		}
		if log == nil || o.servers[o.view.Primary].timeline != o.view.Timeline {
			continue
		}
		// As a session does that carries its token over to the newest timeline.
		switch proof := o.view.History.Reaches(head, r.Position); {
		case proof == Lost && contains(log, r.id):
			return fmt.Errorf("write %d at %v is said to be lost, and is not", r.id, r.Position)
		case proof == Satisfied && !contains(log, r.id):
			return fmt.Errorf("write %d at %v is said to be in the newest timeline, and is lost", r.id, r.Position)
		}
	}
	return nil
}

// TestTrackerAgainstOracle runs random schedules of a small cluster: writes,
// replication that lags, stalls and breaks, restarts, promotions out of pgtide's
// sight, old primaries that go on writing. Fresh must be fresh, and proven
// must be there.
func TestTrackerAgainstOracle(t *testing.T) {
	first, last := uint64(1), uint64(*runs)
	if *seed != 0 {
		first, last = *seed, *seed
	}
	var fresh, proven, lost, failovers, placed, foundOut int
	for seed := first; seed <= last; seed++ {
		o := newOracle(seed)
		for range 400 {
			before := o.view.Seq
			o.step()
			if o.view.Seq == before {
				continue
			}
			if err := o.check(); err != nil {
				t.Fatalf("seed %d (go test -run Oracle -topology.seed=%d): %v\n%s\nhistory %v",
					seed, seed, err, strings.Join(o.trace, "\n"), o.view.History)
			}
		}
		f, p, l, c, x := o.claims()
		fresh, proven, lost, placed, foundOut = fresh+f, proven+p, lost+l, placed+c, foundOut+x
		if o.view.Timeline > 1 {
			failovers++
		}
	}
	t.Logf("%d schedules, %d with a failover; at their ends %d replicas known to be fresh, %d writes proven, %d lost, %d subscribers with a position, %d found out",
		last-first+1, failovers, fresh, proven, lost, placed, foundOut)
	if n := int(last - first + 1); n > 100 && (fresh < n/4 || proven < n || lost < n/10 || failovers < n/4 || placed < n/40 || foundOut < n/2000) {
		t.Error("the schedules leave too little to check")
	}
}

// claims counts what the last view vouches for: a tracker that knew nothing
// would never be wrong.
func (o *oracle) claims() (fresh, proven, lost, placed, foundOut int) {
	for i := range o.servers {
		n := &o.view.Nodes[i]
		if n.Role == Replica && n.FreshKnown {
			fresh++
		}
		if n.Role == Subscriber && n.State == Up && !n.Position.IsZero() {
			placed++
		}
		if n.Role == Subscriber && n.State == Foreign {
			foundOut++
		}
		for _, r := range o.records {
			switch o.view.Prove(i, r.Position) {
			case Satisfied:
				proven++
			case Lost:
				lost++
			}
		}
	}
	return fresh, proven, lost, placed, foundOut
}
