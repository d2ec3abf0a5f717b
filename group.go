package pgtide

import (
	"context"
	"fmt"
	"maps"
	"slices"
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

// OnGroup returns a context whose calls go to a replica that [Node.Groups] counts
// to the group of this name, otherwise as with [OnReplica]. When none of them can
// serve a read in time, [Options.GroupFallback] holds. The innermost of OnGroup,
// [OnPrimary], [OnReplica] and [OnNode] holds. A name that no node has is an
// error that matches [ErrUnknownGroup].
func OnGroup(ctx context.Context, name string) context.Context {
	return withScope(ctx, func(s *scope) { s.target, s.node, s.group = route.ToReplica, "", name })
}

// HasGroup reports whether a node counts to the group of this name.
func (db *DB) HasGroup(name string) bool { return db.groups[name] != 0 }

// groupsOf returns the nodes of each group, as bit masks.
func groupsOf(nodes []Node) map[string]uint64 {
	groups := map[string]uint64{}
	for i, n := range nodes {
		for _, name := range n.Groups {
			groups[name] |= 1 << uint(i)
		}
	}
	return groups
}

// resolveGroup finds the group that the caller named.
func (c *call) resolveGroup(name string) error {
	c.req.Group = c.db.groups[name]
	if c.req.Group == 0 {
		return fmt.Errorf("%w %q: the groups are %s", ErrUnknownGroup, name, strings.Join(slices.Sorted(maps.Keys(c.db.groups)), ", "))
	}
	c.req.Fallback = route.Fallback(c.db.options.GroupFallback)
	return nil
}
