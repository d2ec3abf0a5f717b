package pgtide

import (
	"context"

	"github.com/pgtide/pgtide/internal/route"
)

// scope is all that a context says to pgtide. It is never changed: each With
// function makes a new one, so that leaving a scope restores the outer one
// whatever happened inside.
type scope struct {
	session     *session
	target      route.Target
	node        string
	consistency Consistency
	maxLag      int64
	group       string
	guarded     bool // guard is set
	guard       Guard
	note        string
	shared      bool    // share is set
	share       float64 // of reads that may go to replicas
}

type scopeKey struct{}

var noScope = &scope{}

func scopeOf(ctx context.Context) *scope {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s
	}
	return noScope
}

// scoped is a context with a scope of its own.
type scoped struct {
	context.Context
	scope scope
}

// Value implements [context.Context].
func (c *scoped) Value(key any) any {
	if key == (scopeKey{}) {
		return &c.scope
	}
	return c.Context.Value(key)
}

func withScope(ctx context.Context, change func(*scope)) context.Context {
	c := &scoped{ctx, *scopeOf(ctx)}
	change(&c.scope)
	return c
}

// WithMaxLag returns a context whose reads go only to replicas that are at most
// so many bytes of WAL behind the primary, or fewer if [Options.MaxLag] says so.
// Zero or less adds nothing.
func WithMaxLag(ctx context.Context, bytes int64) context.Context {
	return withScope(ctx, func(s *scope) { s.maxLag = bytes })
}

// OnPrimary returns a context whose calls go to the primary. The innermost of
// OnPrimary, [OnReplica], [OnGroup] and [OnNode] holds.
func OnPrimary(ctx context.Context) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.ToPrimary, "", "" })
}

// OnReplica returns a context whose calls go to a replica: also a statement
// that pgtide does not surely know for a read, a connection taken by
// [DB.Acquire] and a transaction that does not ask to write. What the session
// must see still holds; when no replica has it in time, the primary serves the
// read. A statement that surely writes goes to the primary. Subscribers serve what
// they would without it.
func OnReplica(ctx context.Context) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.ToReplica, "", "" })
}

// OnNode returns a context whose calls go to the node of this name and to no
// other, writes too. A read waits until the node has what the session must
// see, at most [Options.WaitBudget]; then it fails with [ErrNoFreshReplica]. A
// read of what a subscriber does not have whole fails with [ErrNotPublished].
// With consistency [Eventual] it takes the node as it is.
func OnNode(ctx context.Context, name string) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.ToNode, name, "" })
}

// Anywhere returns a context in which the statement decides again, inside one
// made by [OnPrimary], [OnReplica] or [OnNode].
func Anywhere(ctx context.Context) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.Auto, "", "" })
}

// WithConsistency returns a context whose reads see at least what c promises.
func WithConsistency(ctx context.Context, c Consistency) context.Context {
	return withScope(ctx, func(s *scope) { s.consistency = c })
}

// WithReadShare returns a context of whose reads fit for replicas this share
// goes there, from 0 to 1, whatever [Options.Shadow] and [Options.ReadShare] say:
// a route, or a part of the users, can be ahead of the others. The rest goes to
// the primary with [ReasonShadow].
func WithReadShare(ctx context.Context, share float64) context.Context {
	return withScope(ctx, func(s *scope) { s.shared, s.share = true, share })
}

// WithNote returns a context whose decisions carry note: why the program sends
// its calls where it does, such as the rule of a middleware.
func WithNote(ctx context.Context, note string) context.Context {
	return withScope(ctx, func(s *scope) { s.note = note })
}

// NewSession returns a context that begins a session: one unit of work, such
// as a request or a job, whose reads see its own writes. A session may be used
// by many goroutines at once. Its token continues it elsewhere: see
// [TokenFrom] and [WithToken].
func NewSession(ctx context.Context) context.Context {
	c := &struct { // at once, for each request makes one
		scoped
		session session
	}{scoped: scoped{ctx, *scopeOf(ctx)}}
	c.scope.session = &c.session
	return &c.scoped
}

// HasSession reports whether ctx carries a session.
func HasSession(ctx context.Context) bool { return scopeOf(ctx).session != nil }

// WithToken returns a context whose session must see what t stands for. The
// session is that of ctx, or a new one when ctx has none.
func WithToken(ctx context.Context, t Token) context.Context {
	if !HasSession(ctx) {
		ctx = NewSession(ctx)
	}
	scopeOf(ctx).session.adopt(t)
	return ctx
}

// TokenFrom returns what the session of ctx must see at least, to be handed to
// whoever goes on with its work. ok is false when there is no session or it
// has nothing to carry: it has neither written nor been given a token.
func TokenFrom(ctx context.Context) (t Token, ok bool) {
	s := scopeOf(ctx).session
	if s == nil {
		return Token{}, false
	}
	return s.token()
}

// Explain returns the newest decisions of the session of ctx, oldest first, at
// most 64.
func Explain(ctx context.Context) []Decision {
	if s := scopeOf(ctx).session; s != nil {
		return s.explain()
	}
	return nil
}

// Lost returns a [WriteLostError] once a failover was found to have lost what
// the session of ctx had written, else nil. The session itself goes on with
// what the new primary has.
func Lost(ctx context.Context) error {
	if s := scopeOf(ctx).session; s != nil {
		return s.lost()
	}
	return nil
}
