package pgtide

import "github.com/pgtide/pgtide/internal/topology"

// viewed acts on what a new view changed. Connections made to a node in
// another role or run are closed: the pool would keep them for an hour.
func (db *DB) viewed(old, v *topology.View) {
	roster := db.roster.Load()
	for i := range v.Nodes {
		a, b := before(old, v, i), &v.Nodes[i]
		n := roster.at(v, i)
		if n == nil || a.ID != b.ID {
			continue // it has come or gone
		}
		if a.Incarnation != b.Incarnation && a.Incarnation != 0 || a.Role != b.Role && a.Role != topology.RoleUnknown {
			n.pool.Reset()
		}
		if b.Misses > 0 && a.Misses == 0 {
			n.links.cut(func(l *link) bool { return l.is(connecting) })
		}
		if b.Misses >= silences && a.Misses < silences {
			// Calls do not wait for a server that will not answer. Writes do: of one
			// that is merely slow nobody could tell what became of them. An idle
			// connection may be one that the pool asks if it is well, for a call.
			n.links.cut(func(l *link) bool { return !l.is(holding) })
			n.turnAway()
			n.pool.Reset()
		}
		if a.Misses > 0 && b.State == topology.Up {
			// A new connection is answered, an old one was not: what lies between may
			// have forgotten the others too. Reads sent since the last answer lose
			// nothing by being made elsewhere.
			n.links.cut(func(l *link) bool { return l.is(reading) && l.since.Load() > int64(a.Observed) })
			n.pool.Reset()
		}
		if f := db.options.Hooks.OnNode; f != nil && (a.Role != b.Role || a.State != b.State) {
			f(db.nodeStatus(old, i, b.Observed), db.nodeStatus(v, i, b.Observed))
		}
	}
	if idOfPrimary(old) != idOfPrimary(v) {
		db.follow(roster, v)
	}
	db.discovery.look(old, v)
	if f := db.options.Hooks.OnPrimary; f != nil && (idOfPrimary(old) != idOfPrimary(v) || old.SplitBrain != v.SplitBrain) {
		f(nodeName(old, old.Primary), nodeName(v, v.Primary), v.SplitBrain)
	}
}

// silences is how many probes in a row must get no answer at all, the second of
// them over a new connection, for a server to count as hanging.
const silences = 2

// follow closes what leads to a node that was the primary before v's.
func (db *DB) follow(roster *roster, v *topology.View) {
	if v.Primary != topology.NoNode {
		for i := range v.Nodes {
			// What is still open there would write to a log that was left behind, or
			// wait for an answer that does not matter any more.
			if n := roster.at(v, i); n != nil && i != v.Primary && n.wasPrimary.Swap(false) {
				n.links.cut(func(*link) bool { return true })
				n.turnAway()
				n.pool.Reset()
			}
		}
		server := v.Nodes[v.Primary].Incarnation
		db.departed.each(func(n *node) {
			if db.server(n) != server && n.wasPrimary.Swap(false) {
				n.links.cut(func(*link) bool { return true })
			}
		})
		if n := roster.at(v, v.Primary); n != nil {
			n.wasPrimary.Store(true)
		}
	}
	if pool := db.primaryPool.Load(); pool != nil {
		pool.Reset()
	}
}

// before returns the node in place i as old has it.
func before(old, v *topology.View, i int) *topology.Node {
	if i >= len(old.Nodes) || old.Nodes[i].ID != v.Nodes[i].ID {
		return &topology.Node{}
	}
	return &old.Nodes[i]
}

// idOfPrimary is zero when there is none.
func idOfPrimary(v *topology.View) uint32 {
	if v.Primary == topology.NoNode {
		return 0
	}
	return v.Nodes[v.Primary].ID
}
