package pgtide

import (
	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
)

// writes reports whether the attempt may have written. One that the caller sent
// to a replica has not: that is the caller's word.
func (c *call) writes() bool {
	return !c.begin && (c.calls || c.req.Write != route.ReasonNone && (c.req.Target != route.ToReplica || !c.role().Follows()))
}

// role is that of the attempt's node, as far as was known when it was chosen.
func (c *call) role() topology.Role { return c.view.Nodes[c.node.place].Role }

// arm prepares a write: it is to be stamped with its position, when there is a
// session to carry it, and to be known for sent or not. Of a read it makes sure
// that it is served by the server it is meant for.
func (c *call) arm(m stamp.Mode) {
	c.wire, c.armed, c.guarded = nil, false, false
	if !c.writes() {
		if !c.begin {
			c.verify()
		}
		return
	}
	if c.wire = stamp.From(c.conn.Conn().PgConn()); c.wire == nil {
		return
	}
	c.sent = c.wire.Sent()
	if m == stamp.Copy && c.node.pooling.found.Load() {
		return // PgBouncer loses count of the answers to what comes behind a copy
	}
	if c.state != nil && c.role() == topology.Primary { // a standby could not answer
		c.wire.Arm(m)
		c.armed = true
	}
}

// untouched reports whether nothing of the attempt has reached its connection.
func (c *call) untouched() bool {
	return c.wire != nil && !c.unseen && c.wire.Sent() == c.sent
}

// note keeps what the attempt means for later reads. acked says that it was
// answered without an error.
func (c *call) note(acked bool) {
	c.time()
	switch {
	case c.writes():
		c.db.wrote(c.state, c.stamped(), &c.view.Nodes[c.node.place], acked)
	case c.state != nil:
		c.state.read(c.node.place, c.view, c.req.Level)
	}
}

// hand notes that a part of the result is handed out. The session has been shown
// it from now on, and may read elsewhere before it has read the rest.
func (c *call) hand() {
	c.time()
	if c.handed {
		return
	}
	c.handed = true
	if c.link != nil {
		c.link.use.CompareAndSwap(uint32(reading), uint32(handing))
	}
	if c.state != nil {
		c.state.read(c.node.place, c.view, c.req.Level)
	}
}

// wrote notes that a write on n has returned. A failed one counts too: what
// failed may have been no more than the answer.
func (db *DB) wrote(st *state, s *stamp.Conn, n *topology.Node, acked bool) {
	count := db.writes.Add(1)
	for own := db.own.Load(); own < count && !db.own.CompareAndSwap(own, count); own = db.own.Load() {
	}
	if st == nil {
		return
	}
	if s != nil {
		switch p, here := stamped(s, n); {
		case !p.IsZero():
			st.raise(p)
			return
		case !here:
			acked = false // on a timeline that is not known
		}
	}
	if acked {
		st.unplaced(count, n.Position.Timeline)
		return
	}
	st.unplaced(count, 0)
}

// stamped returns what holds the attempt's stamp, or nil.
func (c *call) stamped() *stamp.Conn {
	if !c.armed {
		return nil
	}
	return c.wire
}

// stamped returns the position that s got for a write on n, if it did. A server
// that accepts writes stays on its timeline for as long as it runs, and a
// connection leads to one run of a server. One through a pooler need not: here is
// false if it did not.
func stamped(s *stamp.Conn, n *topology.Node) (_ topology.Position, here bool) {
	text, ok := s.Take()
	if !ok {
		return topology.Position{}, true
	}
	text, here = placed(text, n)
	lsn, err := topology.ParseLSN(text)
	if err != nil || !here {
		return topology.Position{}, here
	}
	return topology.Position{Timeline: n.Position.Timeline, LSN: n.Geometry.Normalize(lsn)}, true
}
