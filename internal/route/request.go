package route

import (
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// Target is where the caller's context sends a call.
type Target uint8

const (
	Auto      Target = iota // by the statement
	ToPrimary               // to the primary
	ToReplica               // to a replica, also what is not surely a read
	ToNode                  // to Request.Node
)

// Level is how much a read must see.
type Level uint8

const (
	Eventual       Level = iota + 1 // anything
	Bounded                         // all that is older than Request.MaxStaleness, and the session's writes
	ReadYourWrites                  // the session's writes
	Session                         // the session's writes, and all that it has read
	Primary                         // everything: reads at the primary
)

// Fallback says who serves a read that its group cannot.
type Fallback uint8

const (
	Others     Fallback = iota // another replica, else the primary
	ThePrimary                 // the primary
	Nobody                     // it fails
)

// Request is one call, as far as routing cares.
type Request struct {
	// Write is why the call must be able to write; [ReasonNone] makes it a read.
	Write  Reason
	Target Target
	Node   int // for ToNode

	// Group are the nodes that may serve a read, as a bit mask; zero is all of
	// them. Fallback is for when none of them can.
	Group    uint64
	Fallback Fallback
	// Fit are the subscribers that may serve a read, as a bit mask: those that have
	// all that it reads. Replicas always do.
	Fit uint64

	Level Level
	// MaxStaleness bounds the age of a replica's data, and MaxLag how many bytes
	// it is behind; zero sets no bound.
	MaxStaleness time.Duration
	MaxLag       uint64
	// Need and Prior are what the session must see, on its newest timeline and
	// on an older one. Both may be zero.
	Need, Prior topology.Position
	// Writes is the count of writes that the call must see although their
	// positions are not in Need. Zero is none. See [topology.Floor].
	Writes uint64
	// Last is the node the session read from last, or [topology.NoNode].
	Last int
	// Only says that nothing but the node Last, in this incarnation, is known
	// to have all that the session has read; zero if Need covers that.
	Only int64
	// Scattered says that no replica is known to have all that it has read.
	Scattered bool

	// Tried are nodes that failed this call already, as a bit mask.
	Tried uint64
	// WaitLeft is how much longer the call may wait for a replica.
	WaitLeft time.Duration
	// HasWaited is set once the call has waited.
	HasWaited bool
	// Random picks among equals.
	Random uint64
	// Policy is how. Turn grows by one with each request, for RoundRobin.
	Policy Policy
	Turn   uint64
	// Trial lets the request go to an ejected replica, to see whether it is
	// better.
	Trial bool
}

// Policy is how one of several nodes that would all do is picked.
type Policy uint8

const (
	LeastLoaded Policy = iota // of two taken at random
	RoundRobin                // each in turn
)

// Load tells how many calls a node is serving.
type Load interface {
	InFlight(node int) int64
}

// Action is what to do with a call.
type Action uint8

const (
	Go   Action = iota + 1 // run it on Decision.Node
	Wait                   // look again when the view has changed
	Fail                   // there is nowhere to run it
)

// Decision is the answer to a [Request].
type Decision struct {
	Action Action
	Reason Reason
	// Node is where to go, or the node that cannot be used; else NoNode.
	Node int
	// Watch are the nodes whose next probe may change the answer of a Wait, as
	// a bit mask.
	Watch uint64
}
