package pgtide

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// roster is the nodes of a [DB] at one time. It is never changed in place.
type roster struct {
	places []*node           // by their place in the views; nil where there is none
	groups map[string]uint64 // the places of each, as a bit mask
}

// at returns the node that v has in a place, or nil if it has left since.
func (r *roster) at(v *topology.View, place int) *node {
	if place >= len(r.places) || place >= len(v.Nodes) {
		return nil
	}
	if n := r.places[place]; n != nil && n.id == v.Nodes[place].ID {
		return n
	}
	return nil
}

// named returns the node of that name, or nil.
func (r *roster) named(name string) *node {
	for _, n := range r.places {
		if n != nil && n.name() == name {
			return n
		}
	}
	return nil
}

// nodes returns those that there are.
func (r *roster) nodes() []*node {
	return slices.DeleteFunc(slices.Clone(r.places), func(n *node) bool { return n == nil })
}

func (r *roster) names() []string {
	var names []string
	for _, n := range r.nodes() {
		names = append(names, n.name())
	}
	return names
}

// with returns a roster that has n, or nil, in a place.
func (r *roster) with(place int, n *node) *roster {
	next := &roster{places: slices.Clone(r.places), groups: map[string]uint64{}}
	for len(next.places) <= place {
		next.places = append(next.places, nil)
	}
	next.places[place] = n
	for i, n := range next.places {
		if n == nil {
			continue
		}
		for _, name := range n.config.groups {
			next.groups[name] |= 1 << uint(i)
		}
	}
	return next
}

// hash returns that of the node in a place, or zero.
func (db *DB) hash(place int) uint32 {
	if r := db.roster.Load(); place < len(r.places) && r.places[place] != nil {
		return r.places[place].hash
	}
	return 0
}

// enrol makes the nodes of db be these: it opens pools for those that are new,
// and lets those go that are not among them. It returns the names of both.
func (db *DB) enrol(configs []nodeConfig) (joined, left []string, err error) {
	db.enrolling.Lock()
	defer db.enrolling.Unlock()
	if db.isClosed() {
		return nil, nil, ErrClosed
	}
	if len(configs) > MaxNodes {
		return nil, nil, fmt.Errorf("%d nodes are given, the limit is %d", len(configs), MaxNodes)
	}
	stay := map[string]bool{}
	var join []*node
	var leave []*node
	for _, c := range configs {
		n := db.roster.Load().named(c.name)
		if n != nil && n.config.same(c) {
			stay[c.name] = true
			continue
		}
		fresh, errNew := db.newNode(c)
		if errNew != nil {
			err = errors.Join(err, errNew)
			stay[c.name] = n != nil // better as it was than not at all
			continue
		}
		join, joined = append(join, fresh), append(joined, c.name)
	}
	for _, n := range db.roster.Load().nodes() {
		if !stay[n.name()] {
			leave, left = append(leave, n), append(left, n.name())
		}
	}
	for _, n := range leave {
		db.dismiss(n)
	}
	watched := make([]watch.Node, len(join))
	for i, n := range join {
		watched[i] = n.watched(db.options.Zone)
	}
	if len(join) > 0 {
		db.watch.Join(watched, func(i, place int, id uint32) {
			n := join[i]
			n.place, n.id = place, id
			db.roster.Store(db.roster.Load().with(place, n))
			close(n.joined)
		})
	}
	return joined, left, err
}

// dismiss lets a node go. Calls that are there end as they would have; its pool
// is closed once they have.
func (db *DB) dismiss(n *node) {
	before := db.seen(n)
	n.run.Store(before.Incarnation)
	db.departed.add(n)
	n.left.Store(true)
	db.watch.Leave(n.place) // from now on no view has it
	db.roster.Store(db.roster.Load().with(n.place, nil))
	if before.State == topology.Down {
		// Nobody looks at it any more, and it may never answer.
		n.links.cut(func(l *link) bool { return l.is(reading) })
	}
	db.draining.Go(func() {
		n.pool.Close()
		db.departed.remove(n)
	})
}

// departed are the nodes that have left and still have calls.
type departed struct {
	mu    sync.Mutex // guards nodes
	nodes map[*node]struct{}
}

func (d *departed) add(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = make(map[*node]struct{})
	}
	d.nodes[n] = struct{}{}
}

func (d *departed) remove(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, n)
}

// each calls f for each of them. f must not block.
func (d *departed) each(f func(*node)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.nodes {
		f(n)
	}
}

// server returns the incarnation of the server that n is, or was when it left.
func (db *DB) server(n *node) int64 {
	if seen := db.seen(n); seen != nil {
		return seen.Incarnation
	}
	return n.run.Load()
}

// groupNames returns the names of all groups, in order.
func (r *roster) groupNames() []string { return slices.Sorted(maps.Keys(r.groups)) }
