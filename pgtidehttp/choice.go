package pgtidehttp

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgtide/pgtide"
)

// choice is what a wrapper, a header or a route says of a request's calls.
type choice struct {
	target      target
	group       string
	consistency pgtide.Consistency
}

// target is where the calls go.
type target uint8

const (
	byStatement target = iota // where each of them belongs
	toPrimary
	toReplica
	toGroup
)

// parseChoice reads what [Route.Use] and the consistency header may say.
func parseChoice(text string) (choice, error) {
	switch group, ok := strings.CutPrefix(text, "group:"); {
	case ok && group != "":
		return choice{target: toGroup, group: group}, nil
	case text == "primary":
		return choice{target: toPrimary}, nil
	case text == "replica":
		return choice{target: toReplica}, nil
	}
	c, err := pgtide.ParseConsistency(text)
	if err != nil {
		return choice{}, fmt.Errorf("%q is not primary, replica or group:NAME, and %w", text, err)
	}
	return choice{consistency: c}, nil
}

// known returns an error if c names a group that hasGroup does not know.
func (c choice) known(hasGroup func(string) bool) error {
	if c.target == toGroup && !hasGroup(c.group) {
		return fmt.Errorf("no node counts to group %q", c.group)
	}
	return nil
}

// decider is who has decided for a request, the handler's own wrapper last.
type decider uint8

const (
	byMethod decider = iota // or nobody
	byRoute
	byHeader
	byWrapper
)

// scope is what is known of a request at one point of its way to the handler.
// It is copied and never changed, so that what an inner handler is told ends
// with it.
type scope struct {
	w *response // nil outside any Wrap
	// reads is the intent: the request is taken to read only. wrapped says that
	// a wrapper has said so, or the contrary; method is what its method says.
	reads, wrapped, method bool

	by       decider
	note     string // who has decided, for Explain
	eventual bool   // what has decided asks for nothing
	pinned   bool   // reads go to the primary
	atomic   atomicity
}

// scoped is a context with a scope of its own.
type scoped struct {
	context.Context
	scope scope
}

type scopeKey struct{}

// Value implements [context.Context].
func (c *scoped) Value(key any) any {
	if key == (scopeKey{}) {
		return &c.scope
	}
	return c.Context.Value(key)
}

var noScope scope

func scopeOf(ctx context.Context) *scope {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s
	}
	return &noScope
}

// apply makes c the decision, in place of one further out that counts less, and
// returns ctx with what c says.
func (s *scope) apply(ctx context.Context, c choice, by decider, note string) context.Context {
	if s.note != "" && (by != byWrapper || s.by != byWrapper) {
		ctx = pgtide.WithConsistency(pgtide.Anywhere(ctx), s.least())
		s.reads, s.eventual = s.method, false
		note += ", over " + s.note
	}
	switch c.target {
	case toPrimary:
		ctx, s.reads = pgtide.OnPrimary(ctx), false
	case toReplica:
		ctx, s.reads = pgtide.OnReplica(ctx), true
	case toGroup:
		ctx = pgtide.OnGroup(ctx, c.group)
	}
	s.wrapped = s.wrapped || by == byWrapper && (c.target == toPrimary || c.target == toReplica)
	if c.consistency != 0 {
		s.eventual = c.consistency == pgtide.Eventual
		if s.eventual || !s.pinned {
			ctx = pgtide.WithConsistency(ctx, c.consistency)
		}
	}
	s.by, s.note = by, note
	return pgtide.WithNote(ctx, note)
}

// least is the consistency of reads of which nothing else is said.
func (s *scope) least() pgtide.Consistency {
	if s.pinned {
		return pgtide.Strong
	}
	return 0
}

// guard sets [Options.WriteInRead] for a request that was taken for one that
// reads, or not, until now.
func (s *scope) guard(ctx context.Context, did bool) context.Context {
	if s.w == nil || s.reads == did {
		return ctx
	}
	switch g := s.w.m.writeInRead; {
	case g == pgtide.GuardOff:
		return ctx
	case s.reads:
		return pgtide.ReadOnly(ctx, g)
	}
	return pgtide.AllowWrites(ctx)
}
