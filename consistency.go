package pgtide

import (
	"errors"
	"strings"
	"time"

	"github.com/pgtide/pgtide/internal/route"
)

// Consistency is how much a read must see. The zero value means the default
// of the [Options] it is read under.
//
// The first four are, for one session, the guarantees of Terry et al., Session
// Guarantees for Weakly Consistent Replicated Data, 1994. None of them makes a
// snapshot that spans nodes: two replicas may show two concurrent commits in
// different orders.
type Consistency int64

const (
	// Eventual asks for nothing: any replica that is up will do, within
	// [Options.MaxStaleness].
	Eventual Consistency = -1 - iota
	// ReadYourWrites shows a session everything it has written, and outside a
	// session everything written before through the same [DB].
	ReadYourWrites
	// Session shows a session everything it has written and everything it has
	// already been shown: reads never go back in time, whichever node serves
	// them.
	Session
	// Strong reads at the primary.
	Strong
)

// BoundedStaleness asks for data that is at most d old, and shows a session
// its own writes whatever their age. How old a replica's data is, is measured
// against samples of the primary taken each [Options.ProbeInterval]: a bound
// near that interval or below it makes reads wait for a fresh sample or go to
// the primary. A bound of zero or less is [Strong].
func BoundedStaleness(d time.Duration) Consistency {
	if d <= 0 {
		return Strong
	}
	return Consistency(d)
}

// String names the level, as in bounded_staleness(500ms).
func (c Consistency) String() string {
	switch c {
	case 0:
		return "default"
	case Eventual:
		return "eventual"
	case ReadYourWrites:
		return "read_your_writes"
	case Session:
		return "session"
	case Strong:
		return "strong"
	}
	if c > 0 {
		return "bounded_staleness(" + time.Duration(c).String() + ")"
	}
	return "invalid"
}

// ParseConsistency returns the level that [Consistency.String] writes as text:
// eventual, read_your_writes, session, strong or bounded_staleness(500ms), for
// which a duration alone will do.
func ParseConsistency(text string) (Consistency, error) {
	for c := Eventual; c >= Strong; c-- {
		if c.String() == text {
			return c, nil
		}
	}
	bound := text
	if inner, ok := strings.CutPrefix(text, "bounded_staleness("); ok {
		bound, _ = strings.CutSuffix(inner, ")")
	}
	if d, err := time.ParseDuration(bound); err == nil && d >= 0 {
		return BoundedStaleness(d), nil
	}
	return 0, errors.New("it is not eventual, read_your_writes, session, strong, nor a duration such as 500ms")
}

func (c Consistency) valid() bool { return c >= Strong }

// level splits c into what the router knows.
func (c Consistency) level() (l route.Level, bound time.Duration) {
	switch c {
	case Eventual:
		return route.Eventual, 0
	case Session:
		return route.Session, 0
	case Strong:
		return route.Primary, 0
	}
	if c > 0 {
		return route.Bounded, time.Duration(c)
	}
	return route.ReadYourWrites, 0
}
