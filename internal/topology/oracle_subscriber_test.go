package topology

import (
	"slices"

	"github.com/pgtide/pgtide/internal/published"
)

// feeding is what the oracle knows of a subscriber's subscription.
type feeding struct {
	worker, process   int32 // of the subscriber and of the primary that sends to it
	cursor            LSN   // everything sent up to here was applied
	applied, received LSN   // what the worker tells
	told              bool  // all that is there was there when it was last probed
	known             int   // records, of those that were there then
	flushed           int   // records that survive a crash
	mayTell           bool  // of its last transaction too
}

// processes are handed out in turn, so that no two are the same.
func (o *oracle) process() int32 {
	o.ids++
	return int32(o.ids)
}

// stepSubscriber lets something happen to a subscriber.
func (o *oracle) stepSubscriber(i int, s *server) {
	f := &s.feeding
	switch p := o.rng.IntN(1000); {
	case p < 330:
		o.probe(i, s)
	case p < 640:
		o.answer(i, s)
	case p < 960:
		o.send(s)
	case p < 968:
		s.unreachable = !s.unreachable
	case p < 972:
		// A crash: what was not flushed is gone, and sent again.
		if f.worker != 0 && o.rng.IntN(2) == 0 {
			s.log = s.log[:len(s.log)-o.rng.IntN(1+(len(s.log)-f.flushed))]
			f.worker, f.process, f.applied, f.received, f.told = 0, 0, 0, 0, false
			o.say("the subscriber crashes, back to %v", s.origin())
		}
	default:
		k := o.rng.IntN(len(o.servers))
		up := o.servers[k]
		if f.told && o.tracker.notes[i].intake.attached {
			f.known = len(s.log)
		}
		// One that has more than anybody was told of, or nobody knows where from, and is
		// fed from elsewhere when it is looked at next, cannot be found out.
		if up.role == Primary && (subset(s.log, up.log) || len(s.log) <= f.known) {
			o.connect(s, k)
			o.say("the subscriber is fed by %d from %v on", k, f.cursor)
		}
	}
}

// connect starts a worker that is fed by a server. That takes it for as far as its
// numbers say, whatever log they are of.
func (o *oracle) connect(s *server, k int) {
	f := &s.feeding
	s.upstream = k
	f.worker, f.process = o.process(), o.process()
	f.cursor, f.applied, f.received, f.told = s.origin(), 0, 0, false
	if o.tracker.notes[len(o.servers)-1].intake.run == 0 {
		for _, up := range o.servers {
			up.sends = 0 // of what was before anybody looked nobody can know
		}
	}
	o.servers[k].sends = f.process // elsewhere the one before may hold the slot for ever
}

// origin is the end of the last transaction that was applied.
func (s *server) origin() LSN {
	if len(s.log) == 0 {
		return 0
	}
	return s.log[len(s.log)-1].LSN
}

// send has a primary send some of what it has, and the subscriber apply it.
func (o *oracle) send(s *server) {
	f, up := &s.feeding, o.servers[s.upstream]
	if f.worker == 0 || up.role != Primary || up.sends != f.process {
		return
	}
	for _, r := range up.log {
		if r.LSN <= f.cursor {
			continue
		}
		f.received = r.LSN
		if o.rng.IntN(3) == 0 {
			return // received and not applied
		}
		s.log = append(s.log, r)
		f.cursor, f.told = r.LSN, false
	}
	f.received = max(f.received, f.cursor)
	if o.rng.IntN(2) == 0 {
		up.confirmed, f.flushed = max(up.confirmed, f.cursor), len(s.log)
	}
	if o.rng.IntN(2) == 0 {
		f.applied = f.cursor
	}
}

// feed is what a probe of the subscriber sees.
func (s *server) feed() *Feed {
	f := &s.feeding
	f.told = true
	feed := &Feed{OID: 1, Slot: "slot", Worker: f.worker, Applied: f.applied, Received: f.received}
	if f.mayTell {
		feed.Commit = s.origin()
	}
	return feed
}

// outlet is what a probe of a primary sees, also of what the subscriber has by now.
func (o *oracle) outlet(i int, s *server) *Outlet {
	if far := o.servers[len(o.servers)-1]; far.role == Subscriber && far.upstream == i && far.seen != nil {
		for _, r := range far.log[:far.feeding.flushed] {
			if !contains(far.seen, r.id) {
				far.seen = append(far.seen, r)
			}
		}
	}
	out := &Outlet{Slots: map[string]Slot{}, Offer: anOffer}
	if s.sends != 0 {
		out.Slots["slot"] = Slot{s.sends, s.confirmed}
	}
	return out
}

var anOffer = published.NewOffer()

// subset reports whether all of a is in b.
func subset(a, b []record) bool {
	return !slices.ContainsFunc(a, func(r record) bool { return !contains(b, r.id) })
}
