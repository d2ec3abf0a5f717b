package pgtide

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
)

// CurrentToken asks the primary where it is: a session with this token sees
// everything that anybody committed before the call, through pgtide or not.
// It costs one round trip.
func (db *DB) CurrentToken(ctx context.Context) (Token, error) {
	c := db.newCall(OnPrimary(ctx), route.ReasonNone)
	c.allowed = GuardOff // it is not the program's read
	for {
		if err := c.acquire(ctx); err != nil {
			return Token{}, err
		}
		var text string
		c.arm(stamp.Query)
		err := c.conn.Conn().QueryRow(c.ctx, "select pg_current_wal_insert_lsn()::text", pgx.QueryExecModeSimpleProtocol).Scan(&text)
		n := &c.view.Nodes[c.node.place]
		again, err := c.done(err)
		switch {
		case again:
			continue
		case err != nil:
			return Token{}, err
		}
		lsn, err := topology.ParseLSN(text)
		if err != nil {
			return Token{}, err
		}
		return Token{
			systemID: c.view.SystemID,
			need:     topology.Position{Timeline: n.Position.Timeline, LSN: n.Geometry.Normalize(lsn)},
		}, nil
	}
}

// Settled reports whether every node, as last observed, has what t stands for,
// also those that may come back: whoever reads through db sees it without showing
// t, so t need not be kept. A replica that crashes or joins after that is not read
// from, but by [Eventual] reads, before it has it too. It asks nobody.
func (db *DB) Settled(t Token) bool {
	v := db.watch.View()
	switch {
	case t.IsZero():
		return true
	case t.unplaced || t.run != 0 || t.systemID != v.SystemID:
		return false
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if n.State == topology.Gone || n.State == topology.Twin {
			continue
		}
		// The primary counts too: a failover may have lost it.
		if i != v.Primary && (n.State != topology.Up || !n.Role.Follows() || !n.Owes.IsZero()) {
			return false
		}
		for _, p := range [2]topology.Position{t.need, t.prior} {
			if !p.IsZero() && v.Prove(i, p) != topology.Satisfied {
				return false
			}
			// The primary has it, observed or not. But a node that joins owes no more
			// than what was observed.
			if i == v.Primary && v.History.Reaches(v.Newest, p) != topology.Satisfied {
				return false
			}
		}
	}
	return true
}

// WaitFor waits until the named nodes, or without names all replicas that are
// up, have what t stands for, as after a migration; the zero Token asks for
// nothing. It returns when ctx ends,
// naming a node that lags; it returns an error that matches [ErrWriteLost] at
// once if a node never will.
func (db *DB) WaitFor(ctx context.Context, t Token, nodes ...string) error {
	if _, _, err := db.viewOf(nodes); err != nil {
		return err
	}
	if t.IsZero() {
		return nil
	}
	if t.unplaced || t.run != 0 {
		now, err := db.CurrentToken(ctx)
		if err != nil {
			return err
		}
		t = t.Merge(now)
	}
	defer db.watch.Attend(^uint64(0)).Leave()
	for {
		changed := db.watch.Changed()
		v, set, err := db.viewOf(nodes) // again: they may have left, or be back in other places
		if err != nil {
			return err
		}
		if t.systemID != v.SystemID {
			return fmt.Errorf("%w: it is of cluster %d, this one is %d", ErrBadToken, t.systemID, v.SystemID)
		}
		late := topology.NoNode
		for i := range v.Nodes {
			named := set&(1<<uint(i)) != 0
			if !named && (set != 0 || v.Nodes[i].State != topology.Up || !v.Nodes[i].Role.Follows()) {
				continue
			}
			for _, p := range [2]topology.Position{t.need, t.prior} {
				switch v.Prove(i, p) {
				case topology.Satisfied:
				case topology.Lost:
					return &WriteLostError{Token: t, Timeline: v.Timeline, Switch: v.History.Left(p.Timeline).String()}
				default:
					late = i
				}
			}
		}
		if late == topology.NoNode {
			return nil
		}
		select {
		case <-changed:
		case <-db.closed:
			return ErrClosed
		case <-ctx.Done():
			n := &v.Nodes[late]
			return fmt.Errorf("%w: node %q (%s) is at %v, the token at %v: %w",
				ErrNoFreshReplica, n.Name, n.State, n.Position, t.need, context.Cause(ctx))
		}
	}
}

// viewOf returns a view and the places of the named nodes in it.
func (db *DB) viewOf(names []string) (v *topology.View, set uint64, err error) {
	v = db.watch.View()
	r := db.roster.Load()
	for _, name := range names {
		n := r.named(name)
		switch {
		case n == nil || n.left.Load():
			return nil, 0, unknownNode(name, r)
		case r.at(v, n.place) == nil:
			return db.viewOf(names) // it is joining: there is a view with it at once
		}
		set |= 1 << uint(n.place)
	}
	return v, set, nil
}
