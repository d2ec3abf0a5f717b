package pgtide

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// explained is how many decisions a session remembers.
const explained = 64

// session is one unit of work. It may be used with several DBs: each has its
// own cluster, and so its own state.
type session struct {
	first   atomic.Pointer[state] // of the DB used first, nearly always the only one
	lostErr atomic.Pointer[WriteLostError]

	mu     sync.Mutex // guards the fields below; taken before a state's
	states []*state
	given  []Token // tokens that no DB has adopted yet, one a cluster
	log    []Decision
	next   int // where log goes on, once it is full

	// What the slices hold in most sessions, off the heap.
	few struct {
		state  state
		states [1]*state
		given  [1]Token
		log    [1]Decision
	}
}

// state returns what s must see of db's cluster.
func (s *session) state(db *DB) *state {
	if st := s.first.Load(); st != nil && st.db == db {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.states {
		if st.db == db {
			return st
		}
	}
	st := &s.few.state
	if s.states == nil {
		s.states = s.few.states[:0]
	} else {
		st = &state{}
	}
	st.db, st.session = db, s
	st.floor.Store(&noFloor)
	st.last.Store(topology.NoNode)
	s.states = append(s.states, st)
	s.first.CompareAndSwap(nil, st)
	rest := s.given[:0]
	for _, t := range s.given {
		if !st.adopt(t) {
			rest = append(rest, t)
		}
	}
	s.given = rest
	return st
}

func (s *session) adopt(t Token) {
	if t.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.states {
		if st.adopt(t) {
			return
		}
	}
	for i, g := range s.given {
		if g.systemID == t.systemID {
			s.given[i] = g.Merge(t)
			return
		}
	}
	if s.given == nil {
		s.given = s.few.given[:0]
	}
	s.given = append(s.given, t)
}

func (s *session) token() (Token, bool) {
	var few [2]*state // as many as nearly all have, off the heap
	var given Token
	s.mu.Lock()
	states := append(few[:0], s.states...)
	for _, g := range s.given {
		given = given.Merge(g)
	}
	s.mu.Unlock() // a state may find a loss, and tell a hook that uses the session
	var t Token
	for _, st := range states {
		t = t.Merge(st.token())
	}
	t = t.Merge(given)
	return t, !t.IsZero()
}

func (s *session) record(d Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		s.log = s.few.log[:0]
	}
	if len(s.log) < explained {
		s.log = append(s.log, d)
		return
	}
	s.log[s.next] = d
	s.next = (s.next + 1) % explained
}

func (s *session) explain() []Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(append([]Decision(nil), s.log[s.next:]...), s.log[:s.next]...)
}

func (s *session) lost() error {
	if err := s.lostErr.Load(); err != nil {
		return err
	}
	return nil
}

// state is what a session must see of one cluster. Reading it takes no lock.
type state struct {
	db      *DB
	session *session
	floor   atomic.Pointer[floor]
	last    atomic.Int64 // the node read from last

	mu   sync.Mutex // guards changes of floor, and seen
	seen []seen
}

// floor is a set of demands. It is never changed in place.
type floor struct {
	need, prior topology.Position
	// writes is the count of writes to be seen whose positions are not in need.
	writes uint64
	// acked is the same of those that were acknowledged, the last of them on the
	// timeline on: they must not get lost in silence. Zero is none.
	acked uint64
	on    uint32
	// at is when need was raised last: positions sampled later are not before it.
	at time.Duration
}

// noFloor asks for nothing.
var noFloor floor

// seen says that the session read from a node, and what it was shown is not in
// the floor yet. Only consistency level Session asks for that.
type seen struct {
	node        int
	incarnation int64
	end         time.Duration // when the last such read had ended
}

// adopt raises st to t if t is of its cluster.
func (st *state) adopt(t Token) bool {
	v := st.db.watch.View()
	if t.systemID != v.SystemID {
		return false
	}
	if t.unplaced {
		st.unplaced(st.db.writes.Add(1), t.need.Timeline)
	}
	if t.run != 0 && !st.met(v, t) {
		st.unplaced(st.db.writes.Add(1), 0)
	}
	st.raise(t.need, t.prior)
	for i := range v.Nodes {
		if t.last != 0 && st.db.hash(i) == t.last {
			st.last.CompareAndSwap(topology.NoNode, int64(i))
		}
	}
	return true
}

// met notes what t says was shown to the session on a node. It reports false if
// no node is in that run any more.
func (st *state) met(v *topology.View, t Token) bool {
	for i := range v.Nodes {
		if n := &v.Nodes[i]; st.db.hash(i) == t.last && n.Incarnation != 0 && hashRun(n.Incarnation) == t.run {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.see(i, n.Incarnation)
			return true
		}
	}
	return false
}

// raise adds positions to what must be seen.
func (st *state) raise(positions ...topology.Position) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.raiseLocked(positions...)
}

func (st *state) raiseLocked(positions ...topology.Position) {
	f := *st.floor.Load()
	for _, p := range positions {
		f.need, f.prior = mergePositions(f.need, f.prior, p)
	}
	f.at = st.db.watch.Now()
	st.floor.Store(&f)
}

// unplaced adds a write whose position is not known: a sample of the primary
// taken from now on covers it, and until there is one, the session's reads go
// to the primary. timeline is the one it was made on, or zero if it was not
// acknowledged.
func (st *state) unplaced(count uint64, timeline uint32) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := *st.floor.Load()
	f.writes = max(f.writes, count)
	if timeline != 0 {
		f.acked, f.on = max(f.acked, count), max(f.on, timeline)
	}
	f.at = st.db.watch.Now()
	st.floor.Store(&f)
}

// demand fills in what r must see, as of v.
func (st *state) demand(r *route.Request, v *topology.View) {
	f := st.floor.Load()
	if f.unsettled(v) {
		f = st.settle(v)
	}
	r.Need, r.Prior, r.Writes = f.need, f.prior, f.writes
	r.Last = int(st.last.Load())
	r.Only, r.Scattered = 0, false // what was not known a view ago may be by now
	if r.Level == route.Session {
		st.fold(r, v)
	}
}

// unsettled reports whether v changes what f means: the cluster has moved to a
// newer timeline, or f asks for what cannot be.
func (f *floor) unsettled(v *topology.View) bool {
	return f.writes > 0 && (v.Floor.Writes >= f.writes || f.on < v.Timeline) || !f.prior.IsZero() || f.need.Timeline < v.Timeline && !f.need.IsZero() || f.future(v)
}

// future reports whether f asks for a position that the primary had not
// reached when it was asked after f was known: no such position was ever given
// out by this cluster's history.
func (f *floor) future(v *topology.View) bool {
	return v.NewestAt > f.at && f.need.Timeline == v.Newest.Timeline && f.need.LSN > v.Newest.LSN
}

// settle turns counts of writes into positions that v has for them, and
// translates the floor to the timeline of v. What was lost is reported,
// and the session goes on from where the primary is now.
func (st *state) settle(v *topology.View) *floor {
	f, losses := st.translate(v)
	for _, p := range losses {
		st.lose(v, p)
	}
	return f
}

func (st *state) translate(v *topology.View) (_ *floor, losses []topology.Position) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := *st.floor.Load()
	if f.future(v) {
		st.db.stat.futureTokens.Add(1)
		f.need = v.Newest
	}
	if lost := f.place(v); lost {
		losses = append(losses, topology.Position{Timeline: f.on})
		f.acked, f.on = 0, 0
	}
	for _, p := range [2]*topology.Position{&f.prior, &f.need} {
		if p.IsZero() || p.Timeline >= v.Timeline {
			continue
		}
		head := topology.Position{Timeline: v.Timeline, LSN: ^topology.LSN(0)}
		switch v.History.Reaches(head, *p) {
		case topology.Satisfied:
			// Up to the switch the two timelines are one log.
			p.Timeline = v.Timeline
		case topology.Lost:
			losses = append(losses, *p)
			// What is left of the session's past is what the new timeline began with.
			*p = topology.Position{Timeline: v.Timeline, LSN: v.History.Left(p.Timeline)}
			if v.Newest.Timeline == v.Timeline {
				*p = v.Newest
			}
		}
	}
	if f.prior.Timeline == f.need.Timeline {
		f.need.LSN, f.prior = max(f.need.LSN, f.prior.LSN), topology.Position{}
	}
	st.floor.Store(&f)
	return &f, losses
}

// place turns counts of writes into positions of v that cover them. It reports
// that an acknowledged write is lost, as far as anybody can tell, when the
// cluster has left the timeline it was made on before its position was sampled.
func (f *floor) place(v *topology.View) (lost bool) {
	if f.acked > 0 && f.on < v.Timeline {
		if v.Before.Position.Timeline != f.on || v.Before.Writes < f.acked {
			return true
		}
		f.need, f.prior = mergePositions(f.need, f.prior, v.Before.Position)
		f.acked, f.on = 0, 0
	}
	if f.writes > 0 && v.Floor.Writes >= f.writes {
		f.need, f.prior = mergePositions(f.need, f.prior, v.Floor.Position)
		f.writes, f.acked, f.on = 0, 0, 0
	}
	return false
}

func (st *state) lose(v *topology.View, p topology.Position) {
	err := &WriteLostError{Token: Token{systemID: v.SystemID, need: p}, Timeline: v.Timeline, Switch: v.History.Left(p.Timeline).String()}
	st.session.lostErr.Store(err)
	st.db.stat.lost.Add(1)
	if f := st.db.options.Hooks.OnWriteLost; f != nil {
		f(err)
	}
}

// read records that node i, as v has it, served a read that has ended.
func (st *state) read(i int, v *topology.View, level route.Level) {
	if v.Nodes[i].Role.Follows() {
		st.last.Store(int64(i))
	}
	if level != route.Session {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.see(i, v.Nodes[i].Incarnation)
}

// see adds to seen. st.mu is held.
func (st *state) see(i int, incarnation int64) {
	now := st.db.watch.Now()
	for k := range st.seen {
		if s := &st.seen[k]; s.node == i && s.incarnation == incarnation {
			s.end = now
			return
		}
	}
	st.seen = append(st.seen, seen{node: i, incarnation: incarnation, end: now})
}

// fold turns reads into positions as far as v allows, and tells r of the rest.
//
// A replica shows what it has replayed, a primary what it has written. So a
// position of the node asked for after a read had ended covers what the read
// was shown, and so does one of the primary, which no replica is ahead of. No
// query is made for this: the next probe brings the position, and until then
// the session stays where it is.
func (st *state) fold(r *route.Request, v *topology.View) {
	st.mu.Lock()
	defer st.mu.Unlock()
	rest := st.seen[:0]
	for _, s := range st.seen {
		n := &v.Nodes[s.node]
		switch {
		case n.State == topology.Up && n.Incarnation == s.incarnation && n.Observed > s.end && !n.Position.IsZero():
			st.raiseLocked(shown(n))
		case v.NewestAt > s.end:
			st.raiseLocked(v.Newest)
		default:
			rest = append(rest, s)
		}
	}
	st.seen = rest
	f := st.floor.Load()
	r.Need, r.Prior = f.need, f.prior
	switch {
	case len(rest) == 1:
		r.Last, r.Only = rest[0].node, rest[0].incarnation
	case len(rest) > 1:
		r.Scattered = true
	}
}

// shown returns a position that covers what n shows, which is up and has one.
func shown(n *topology.Node) topology.Position {
	p := n.Position
	if n.Role == topology.Subscriber {
		p.LSN = max(p.LSN, n.Receive) // what it has applied is known later than it shows
	}
	return p
}

// token returns what st must see, for elsewhere.
func (st *state) token() Token {
	v := st.db.watch.View()
	r := route.Request{Level: route.Session}
	st.demand(&r, v)
	t := Token{systemID: v.SystemID, need: r.Need, prior: r.Prior, unplaced: r.Writes > 0}
	if f := st.floor.Load(); t.unplaced && f.on != 0 {
		// The timeline goes along, so that a failover on the way is noticed.
		t.need, t.prior = mergePositions(t.need, t.prior, topology.Position{Timeline: f.on})
	}
	t.unplaced = t.unplaced || r.Scattered
	if r.Only != 0 && !t.unplaced {
		if v.Nodes[r.Last].Incarnation == r.Only {
			t.run, t.last = hashRun(r.Only), st.db.hash(r.Last)
		}
		t.unplaced = t.last == 0 // the node has left, or is in another run
	}
	if t.IsZero() {
		return Token{}
	}
	if last := st.last.Load(); last != topology.NoNode && t.run == 0 {
		t.last = st.db.hash(int(last))
	}
	return t
}
