package lab

import (
	"context"
	"slices"
)

// enlist makes commits wait for a replica that has come (back) to the primary,
// if they are to, and returns once they do.
func (n *Node) enlist(ctx context.Context) error {
	s := n.c.state()
	if !s.wantsSync(n.name) || !n.streams(s) {
		return nil
	}
	primary, err := n.c.Node(s.Upstream)
	if err != nil || primary == n || primary.standby() {
		return err
	}
	entry, err := s.node(primary.name)
	if err != nil {
		return err
	}
	if slices.Contains(entry.SyncStandbys, n.name) {
		if primary.runState() != Running {
			return nil
		}
		return primary.awaitSync(ctx, []string{n.name}, entry.SyncStandbys)
	}
	s, err = n.c.update(ctx, func(s *state) error {
		entry, err := s.node(primary.name)
		if err != nil || slices.Contains(entry.SyncStandbys, n.name) || !s.wantsSync(n.name) {
			return err
		}
		entry.SyncStandbys = append(entry.SyncStandbys, n.name)
		return primary.writeConf(s, false)
	})
	if err != nil {
		return err
	}
	if primary.runState() != Running {
		return primary.reload() // taken when it is thawed; a stopped one reads it at its start
	}
	return primary.applySync(ctx, s)
}

// succeed gives a replica that is about to be promoted the settings it needs
// as the primary, so that not even its first commit goes through unseen.
func (n *Node) succeed(ctx context.Context) error {
	s := n.c.state()
	if s.Sync == SyncOff || !n.standby() || n.runState() != Running {
		return nil
	}
	s, err := n.c.update(ctx, func(s *state) error { return n.inherit(s) })
	if err != nil {
		return err
	}
	return n.takeSync(ctx, s)
}

// inherit lists whom commits on a new primary wait for: nobody who could not
// answer, as with a promotion after a crash the others are often gone too.
func (n *Node) inherit(s *state) error {
	entry, err := s.node(n.name)
	if err != nil {
		return err
	}
	entry.SyncStandbys = n.c.syncStandbys(s, n, func(other *Node) bool { return other.streams(s) })
	return n.writeConf(s, false)
}

// comeBack makes commits wait for a thawed replica that a promotion left out.
func (n *Node) comeBack(ctx context.Context) error {
	s := n.c.state()
	upstream, err := s.node(s.Upstream)
	if err != nil || !n.streams(s) || !s.wantsSync(n.name) || slices.Contains(upstream.SyncStandbys, n.name) {
		return err
	}
	return n.connected(ctx)
}
