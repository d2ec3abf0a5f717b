package topology

import (
	"fmt"
	"time"

	"github.com/pgtide/pgtide/internal/published"
)

// Feed is what a probe of a subscriber saw of its subscription.
//
// One worker process applies what the primary sends, over one connection for as
// long as it lives. A subscriber cannot be asked which timeline that comes from; the
// primary can be asked who holds its slots.
type Feed struct {
	OID  uint32 // of the subscription: another one has copied its tables anew
	Slot string // at the primary
	// Worker is the process that applies, or zero.
	Worker int32
	// Applied is the position up to which the subscriber has everything, Received
	// one past which it has nothing. Both are of the worker's connection alone.
	Applied, Received LSN
	// Commit is the end of the last transaction that was applied, whoever had sent
	// it. Zero if the role may not ask.
	Commit LSN
	// Fault is why nothing is applied, if that is known.
	Fault error
	Stock *published.Stock
}

// Outlet is what a probe of a primary saw of what it sends to subscribers, at its
// position or past it.
type Outlet struct {
	Slots map[string]Slot // those for logical replication that somebody holds
	Offer *published.Offer
}

// Slot is a slot that a process of the primary holds, to send to a subscriber.
type Slot struct {
	Process   int32
	Confirmed LSN // by the subscriber
}

// intake is what a Tracker keeps of a subscriber beside the view.
type intake struct {
	// One worker in one run of its server has one connection: these tell it from
	// the next. It was first seen at seen.
	run    int64
	worker int32
	slot   string
	seen   time.Duration
	// by held the slot in a probe of the primary that began after seen and ended at
	// held. The worker is attached to it once it was seen alive after that.
	//
	// The process of a connection that broke without a word may hold the slot for a
	// while, when another worker is fed from elsewhere. Nothing is confirmed to it
	// any more. So a worker that came after another is attached to none before that.
	by        sender
	held      time.Duration
	confirmed LSN
	alive     bool
	attached  bool
	after     bool // it was seen without this worker before

	applied, received, commit LSN
	ended                     time.Duration // when they were known

	oid      uint32   // of the subscription
	furthest Position // that it ever had
	fault    error    // it has what it must not have, as long as the subscription lasts

	stock *published.Stock
	names *published.Names
	of    struct { // what names were made of
		stock *published.Stock
		offer *published.Offer
	}
}

// sender is a process of a primary that sends to a subscriber.
type sender struct {
	process  int32
	timeline uint32
}

// take turns what a probe of a subscriber saw into an observation like that of a
// replica: its position, if that is known.
func (t *Tracker) take(o *Observation) {
	n, in, f := &t.view.Nodes[o.Node], &t.notes[o.Node].intake, o.Feed
	if in.run != o.Incarnation || in.worker != f.Worker || in.slot != f.Slot || f.Applied < in.applied {
		in.after = in.run != 0
		in.run, in.worker, in.slot = o.Incarnation, f.Worker, f.Slot
		in.seen, in.by, in.alive, in.attached = o.End, sender{}, false, false
	}
	if in.oid != f.OID {
		in.oid, in.furthest, in.fault = f.OID, Position{}, nil
	}
	in.attached = in.attached || in.alive && o.Start >= in.held
	in.applied, in.received, in.commit, in.ended = f.Applied, f.Received, f.Commit, o.End
	if f.Stock != nil {
		in.stock = f.Stock
	}
	if in.commit > in.received && in.furthest.Timeline != 0 {
		// This connection has not brought it: it is from before.
		in.furthest.LSN = max(in.furthest.LSN, in.commit)
	}
	o.Position, o.Receive = Position{}, 0
	if in.attached {
		o.Position, o.Receive = t.reached(n, in), in.received
	}
}

// reached returns the position that a subscriber which is attached has reached, or
// none if it may have what its primary has not.
//
// It counts as far as the primary was seen with the publications that the offer was
// made of: a table that is not published any more is not kept up to date, and the
// subscriber would not know.
func (t *Tracker) reached(n *Node, in *intake) Position {
	if f := in.furthest; f.Timeline != 0 && f.Timeline != in.by.timeline {
		switch t.view.History.Reaches(Position{in.by.timeline, ^LSN(0)}, f) {
		case Satisfied:
		case Lost:
			in.fault = fmt.Errorf("node %q has what a failover has lost: it had applied up to %v, and its primary comes from before that: "+
				"make its subscription anew", n.Name, f)
			return Position{}
		default:
			return Position{}
		}
	}
	// What it has confirmed it has applied, and a primary that hears of it before it
	// has said how far it is does not say it.
	p := Position{in.by.timeline, max(in.applied, in.confirmed)}
	last := in.received
	if in.commit != 0 && in.commit <= in.received {
		p.LSN, last = max(p.LSN, in.commit), in.commit
	}
	if in.furthest.Timeline != p.Timeline || last > in.furthest.LSN {
		in.furthest = Position{p.Timeline, last}
	}
	switch {
	case p.Timeline == t.outlet.Timeline:
		p.LSN = min(p.LSN, t.outlet.LSN)
	case p.Timeline == n.Position.Timeline:
		p.LSN = min(p.LSN, n.Position.LSN)
	default:
		return Position{}
	}
	if p.LSN == 0 {
		return Position{}
	}
	return p
}

// hindrance says why a subscriber that is up has no position, or does not get on.
func (in *intake) hindrance(n *Node, f *Feed) error {
	switch {
	case f.Fault != nil:
		return fmt.Errorf("node %q: %w", n.Name, f.Fault)
	case !in.attached && in.by.process != 0:
		return fmt.Errorf("node %q: it is not known yet that the primary feeds it: what holds its slot %q there has confirmed nothing since", n.Name, in.slot)
	case !in.attached:
		return fmt.Errorf("node %q: it is not known that the primary feeds it: nobody holds its slot %q there", n.Name, in.slot)
	case n.Position.IsZero() && in.furthest.Timeline != in.by.timeline:
		return fmt.Errorf("node %q: it is not known whether it has what a failover has lost: give the role of the primary's DSN the REPLICATION attribute, "+
			"or make its subscription anew", n.Name)
	}
	return nil
}

// feed takes in what a probe of the primary saw of its subscribers.
func (t *Tracker) feed(o Observation) {
	if o.Outlet == nil {
		return // positions stay as they are
	}
	t.outlet, t.offer = o.Position, o.Outlet.Offer
	for i := range t.view.Nodes {
		n, in := &t.view.Nodes[i], &t.notes[i].intake
		if n.Role != Subscriber || n.State != Up {
			continue
		}
		slot := o.Outlet.Slots[in.slot]
		by := sender{slot.Process, o.Position.Timeline}
		switch {
		case in.attached:
			if by == in.by {
				in.confirmed = max(in.confirmed, slot.Confirmed)
			}
			if in.by.timeline == o.Position.Timeline && in.ended <= o.Start && max(in.applied, in.received) > o.Position.LSN {
				in.fault = fmt.Errorf("node %q has what its primary has not: it is at %v, and the primary was at %v later: make its subscription anew",
					n.Name, max(in.applied, in.received), o.Position.LSN)
				n.State, n.Err, n.Position = Foreign, in.fault, Position{}
				continue
			}
			n.Position = t.reached(n, in)
		case by.process == 0 || in.worker == 0 || o.Start < in.seen:
			in.by, in.alive = sender{}, false
		case by != in.by:
			in.by, in.held, in.confirmed, in.alive = by, o.End, slot.Confirmed, !in.after
		case !in.alive && (slot.Confirmed > in.confirmed || in.confirmed > o.Position.LSN):
			// The latter was confirmed by somebody who has seen another log.
			in.held, in.alive = o.End, true
		}
	}
}

// catalogue brings up to date what subscribers lack.
func (t *Tracker) catalogue() {
	changed := false
	for i := range t.notes {
		in := &t.notes[i].intake
		if in.stock == nil || t.offer == nil || in.of.stock == in.stock && in.of.offer == t.offer {
			continue
		}
		in.of.stock, in.of.offer, changed = in.stock, t.offer, true
		in.names = in.stock.Lacking(t.offer)
	}
	if !changed && t.view.Catalogs.Len() == len(t.notes) {
		return
	}
	c := make(published.Catalogs, len(t.notes))
	for i := range t.notes {
		c[i] = t.notes[i].intake.names
	}
	t.view.Catalogs = &c
}
