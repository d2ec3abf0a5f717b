package stamp

import (
	"bytes"
	"encoding/binary"
)

// Guard is a query that fails unless the server is the one that a request is
// meant for. In front of the request, and answered with it, it has the server
// refuse the request by itself: whatever stands between the two, one transaction
// is served by one server.
type Guard struct {
	before   []byte // of a simple query's text
	after    []byte // the same, behind it
	extended []byte
}

// NewGuard returns the guard that query is.
func NewGuard(query string) *Guard {
	return &Guard{before: []byte(query + "; "), after: []byte("; " + query), extended: execute(query)}
}

// Guard puts g into the next request that executes something, in front of it, or
// behind a BEGIN of the driver. The connection must be idle. A request that would
// not be the same with it, as it executes what an earlier one has left in the
// unnamed statement, goes out without.
func (c *Conn) Guard(g *Guard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearm()
	c.guard = g
	c.busy.Store(true)
}

// Refused ends what Guard began and reports whether the server has refused the
// request. shift is by how many characters a position in the text of a simple
// query, as the server tells it, is too large.
func (c *Conn) Refused() (refused bool, shift int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guard, c.placed = nil, noGuard
	c.busy.Store(!c.reader.idle())
	return c.reader.refused, c.shift
}

// place is where in a request a guard is.
type place uint8

const (
	noGuard place = iota
	inFront
	behindBegin
)

var begin = []byte("begin")

// guarded returns b with the guard in it, or nil if b is not to have it.
func (c *Conn) guarded(b []byte) []byte {
	if c.guard == nil || !c.writer.whole() {
		return nil
	}
	start, executes := 0, -1 // of the request, in b
	if c.open {
		start = -1
	}
	for at := 0; at+headerSize <= len(b); {
		end := at + 1 + int(binary.BigEndian.Uint32(b[at+1:]))
		if end <= at || end > len(b) {
			return nil
		}
		switch b[at] {
		case 'Q':
			return c.guardQuery(b, at, end)
		case 'E':
			executes = at
		case 'S':
			if executes >= 0 {
				return c.guardExtended(b, start)
			}
			start = end
		}
		at = end
	}
	return nil
}

// guardQuery puts the guard into the simple query at b[at:end].
func (c *Conn) guardQuery(b []byte, at, end int) []byte {
	text := b[at+headerSize : end-1]
	var query []byte
	if c.placed = inFront; bytes.HasPrefix(text, begin) {
		c.placed = behindBegin
		query = append(bytes.Clone(text), c.guard.after...)
	} else {
		c.shift = len(c.guard.before) // it is ASCII
		query = append(bytes.Clone(c.guard.before), text...)
	}
	c.guard = nil
	return append(append(bytes.Clone(b[:at]), message('Q', append(query, 0))...), b[end:]...)
}

// guardExtended puts the guard in front of the request that begins at b[start].
func (c *Conn) guardExtended(b []byte, start int) []byte {
	g := c.guard
	c.guard = nil
	if start < 0 {
		return nil
	}
	if b[start] == 'B' {
		// The guard takes the unnamed statement for itself.
		_, rest, _ := bytes.Cut(b[start+headerSize:], []byte{0})
		if len(rest) == 0 || rest[0] == 0 {
			return nil
		}
	}
	c.placed = inFront
	return append(append(bytes.Clone(b[:start]), g.extended...), b[start:]...)
}

// guarding notes on the request that ends with typ that it has the guard.
func (c *Conn) guarding(typ byte) {
	if c.placed != noGuard && (typ == 'Q' || typ == 'S' && c.executes > 0) {
		c.reader.last().guard = c.placed
		c.placed = noGuard
	}
}

// atGuard reports whether what is being read answers a guard.
func (f *filter) atGuard() bool {
	if len(f.due) == 0 {
		return false
	}
	r := &f.due[0]
	return r.guard == inFront && r.done == 0 || r.guard == behindBegin && r.done == 1
}

// passed ends the wait for a guard's answer: what follows is the driver's.
func (f *filter) passed(refused bool) {
	f.refused = refused
	f.due = nil
}
