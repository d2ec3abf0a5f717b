package topology

import "time"

// Proof is the answer to "does this node have everything up to that position?"
type Proof uint8

const (
	// Unknown: no answer can be given, so the node must not be trusted.
	Unknown Proof = iota
	// Behind: not yet; the node may get there.
	Behind
	// Satisfied: yes, and it stays so within the node's incarnation.
	Satisfied
	// Lost: never. The position lies past the point where its timeline was
	// abandoned, so what was written there exists on no node of this history.
	Lost
)

// Switch is one promotion: timeline To left timeline From at the LSN At.
type Switch struct {
	From, To uint32
	At       LSN
	// After is when the promoted node was last seen as a replica: it had not
	// been promoted before.
	After time.Duration
}

// History is the promotions of a cluster as far as they are known, at most one
// for each timeline it leads to. It is never changed in place.
type History []Switch

// With returns h and s, unless h already says how s.To began or s leads
// nowhere: a timeline is always newer than the one it left.
func (h History) With(s Switch) History {
	if s.From >= s.To {
		return h
	}
	for _, k := range h {
		if k.To == s.To {
			return h
		}
	}
	return append(h[:len(h):len(h)], s)
}

// Knows reports whether h says how a timeline began.
func (h History) Knows(timeline uint32) bool {
	_, ok := h.into(timeline)
	return ok
}

// end finds where timeline from stops being a part of timeline to.
// known is false when a promotion between the two was never seen; ancestor is
// false when to certainly does not descend from from.
func (h History) end(from, to uint32) (at LSN, ancestor, known bool) {
	at = ^LSN(0)
	for to > from {
		s, ok := h.into(to)
		if !ok {
			return 0, false, false
		}
		at = min(at, s.At)
		to = s.From
	}
	return at, to == from, true
}

// since returns a time before which the primary of timeline to had not left
// timeline from. All promotions between the two must be known.
func (h History) since(from, to uint32) time.Duration {
	at := time.Duration(1<<63 - 1)
	for to > from {
		s, _ := h.into(to)
		at, to = min(at, s.After), s.From
	}
	return at
}

// origin returns p on the oldest timeline that is known to contain it: up to
// the LSN of a switch both timelines are one log.
func (h History) origin(p Position) Position {
	for {
		s, ok := h.into(p.Timeline)
		if !ok || p.LSN > s.At {
			return p
		}
		p.Timeline = s.From
	}
}

func (h History) into(to uint32) (Switch, bool) {
	for _, s := range h {
		if s.To == to {
			return s, true
		}
	}
	return Switch{}, false
}

// Reaches says whether a node that has replayed everything up to have, has
// everything up to want.
func (h History) Reaches(have, want Position) Proof {
	if want.IsZero() {
		return Satisfied
	}
	if have.IsZero() {
		return Unknown
	}
	if want.Timeline != have.Timeline {
		// A position that was carried over to a newer timeline may be from before
		// the switch: it is then no more lost than the old timeline's own.
		want = h.origin(want)
	}
	if want.Timeline < have.Timeline {
		end, ancestor, known := h.end(want.Timeline, have.Timeline)
		switch {
		case !known:
			return Unknown
		case !ancestor || want.LSN > end:
			return Lost
		}
	}
	if want.Timeline > have.Timeline {
		// The node has not followed the promotion yet. What it has is good up to
		// the switch; past it, its log and the wanted one are different logs, and
		// it will not get there by replaying more of its own.
		end, ancestor, known := h.end(have.Timeline, want.Timeline)
		if !known || !ancestor || have.LSN > end {
			return Unknown
		}
		return Behind // want lies past the switch: else its origin were no newer
	}
	if have.LSN >= want.LSN {
		return Satisfied
	}
	return Behind
}

// Left returns the LSN at which timeline was abandoned for the next one that
// is known, or zero.
func (h History) Left(timeline uint32) LSN {
	for _, s := range h {
		if s.From == timeline {
			return s.At
		}
	}
	return 0
}
