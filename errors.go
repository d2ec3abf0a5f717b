package pgtide

import (
	"errors"
	"fmt"
)

var (
	// ErrNoPrimary: no node accepts writes, and none did within
	// [Options.FailoverWait].
	ErrNoPrimary = errors.New("no primary accepts writes")
	// ErrSplitBrain: two nodes accept writes and neither timeline nor history
	// can order them. Writes are refused until one of them stops; reads go on.
	ErrSplitBrain = errors.New("two nodes accept writes on the same timeline")
	// ErrNoFreshReplica: no node that may serve the read had what it must see,
	// in the time it could wait.
	ErrNoFreshReplica = errors.New("no fresh replica")
	// ErrNodeDown: the node named by [OnNode] does not answer, or is a primary that
	// a promotion has left behind, and the call may write.
	ErrNodeDown = errors.New("node is down")
	// ErrNotPublished: a subscriber does not have, or not whole, what a statement
	// reads that must run there and nowhere else: by [OnNode], in a transaction or on
	// a connection.
	ErrNotPublished = errors.New("the subscriber does not have it whole")
	// ErrUnknownNode: [OnNode] named a node that is not configured.
	ErrUnknownNode = errors.New("unknown node")
	// ErrUnknownGroup: [OnGroup] named a group that no node counts to.
	ErrUnknownGroup = errors.New("unknown group")
	// ErrOutcomeUnknown: a write was sent and no answer came back, so nobody
	// knows whether it was done. It is never sent again. The error that wraps
	// it is an [OutcomeUnknownError].
	ErrOutcomeUnknown = errors.New("outcome of the write is unknown")
	// ErrWriteLost: a failover lost something that the session had written and
	// the primary had acknowledged. See [Lost].
	ErrWriteLost = errors.New("an acknowledged write was lost by a failover")
	// ErrClosed: the DB has been closed.
	ErrClosed = errors.New("pgtide: DB is closed")
	// ErrBadToken: a token is malformed, forged or too old.
	ErrBadToken = errors.New("bad token")
)

// OutcomeUnknownError is returned for a write that was sent to Node and never
// answered: the connection broke, or the server was shut down. It matches
// [ErrOutcomeUnknown].
type OutcomeUnknownError struct {
	Node string
	Err  error // what happened instead of an answer
}

func (e *OutcomeUnknownError) Error() string {
	return fmt.Sprintf("node %q: %v, and it is not sent again: look whether it was done: %v", e.Node, ErrOutcomeUnknown, e.Err)
}

// Unwrap returns the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// Is reports whether target is [ErrOutcomeUnknown].
func (e *OutcomeUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }

// WriteLostError tells which position of a session a failover lost. It matches
// [ErrWriteLost].
type WriteLostError struct {
	// Token is what the session had to see: a position on the old timeline. Its
	// LSN is 0/0 when the position of the write was never learned: then nobody
	// can tell if the write survived.
	Token Token
	// Timeline is the one the cluster is on now, and Switch the LSN at which it
	// left the token's timeline: what was written past it is lost.
	Timeline uint32
	Switch   string
}

func (e *WriteLostError) Error() string {
	if e.Token.need.LSN == 0 {
		return fmt.Sprintf("%v, perhaps: the session had written on timeline %d, at a position that was not learned before timeline %d",
			ErrWriteLost, e.Token.Timeline(), e.Timeline)
	}
	return fmt.Sprintf("%v: the session depends on %s of timeline %d, which was abandoned at %s for timeline %d",
		ErrWriteLost, e.Token.LSN(), e.Token.Timeline(), e.Switch, e.Timeline)
}

// Is reports whether target is [ErrWriteLost].
func (e *WriteLostError) Is(target error) bool { return target == ErrWriteLost }

// OutcomeUnknown reports whether err leaves open if a write was done.
func OutcomeUnknown(err error) bool { return errors.Is(err, ErrOutcomeUnknown) }
