package pgtide

import "context"

// Hooks are told what pgtide does. Nil fields are skipped. They are called on
// the goroutine that makes the call, or on one that probes, and must return
// soon: OnNode and OnPrimary hold up probing until they do.
type Hooks struct {
	// OnDecision is called before each attempt at a call. Statements of an open
	// transaction or an acquired connection are not attempts: they stay where it
	// began. The context it returns
	// is the one that the attempt is made with: a tracer puts its span there.
	OnDecision func(ctx context.Context, d Decision) context.Context
	// OnResult is called after each attempt, with the context from OnDecision.
	// retry says that err does not reach the caller and the call goes on.
	OnResult func(ctx context.Context, d Decision, err error, retry bool)
	// OnNode is called when a node's role changes, and when it goes down or
	// comes back.
	OnNode func(before, after NodeStatus)
	// OnPrimary is called when another node becomes the one that is written to.
	// An empty name is none; splitBrain says that there are two.
	OnPrimary func(before, after string, splitBrain bool)
	// OnDiscover is called when [Options.Discover] has found that nodes joined or
	// left, with their names, or has failed.
	OnDiscover func(joined, left []string, err error)
	// OnGuard is called when a [Guard] meets a write, with the caller's context.
	OnGuard func(ctx context.Context, err *WriteGuardError)
	// OnWriteLost is called when a failover is found to have lost what a session
	// had written.
	OnWriteLost func(err *WriteLostError)
}
