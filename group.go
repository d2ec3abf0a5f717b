package pgtide

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgtide/pgtide/internal/route"
)

// Fallback says where a read of [OnGroup] goes when no replica of the group can
// serve it.
type Fallback uint8

const (
	FallbackReplicas Fallback = iota // to another replica, else to the primary
	FallbackPrimary                  // to the primary
	FallbackNone                     // nowhere: it fails with [ErrNoFreshReplica]
)

// OnGroup returns a context whose calls go to a replica or subscriber that
// [Node.Groups] counts to the group of this name, otherwise as with [OnReplica].
// In a transaction or on a connection that began on a subscriber, a read of what
// that does not have whole fails with [ErrNotPublished]. When none of them can
// serve a read in time, [Options.GroupFallback] holds. The innermost of OnGroup,
// [OnPrimary], [OnReplica] and [OnNode] holds. A name that no node has is an
// error that matches [ErrUnknownGroup].
func OnGroup(ctx context.Context, name string) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.ToReplica, "", name })
}

// HasGroup reports whether a node counts to the group of this name.
func (db *DB) HasGroup(name string) bool { return db.roster.Load().groups[name] != 0 }

// resolveGroup finds the group that the caller named.
func (c *call) resolveGroup(r *roster) error {
	c.req.Group = r.groups[c.group]
	if c.req.Group == 0 {
		return fmt.Errorf("%w %q: the groups are %s", ErrUnknownGroup, c.group, strings.Join(r.groupNames(), ", "))
	}
	c.req.Fallback = route.Fallback(c.db.options.GroupFallback)
	return nil
}
