package stamp

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
)

// Mode is what kind of request the next stamp follows.
type Mode uint8

const (
	Query Mode = iota + 1 // statements and batches outside a transaction, COMMIT
	Copy                  // COPY FROM STDIN: the request ends when the data does
)

// Conn is the stream of messages between a driver and a server, and can stamp
// requests in it. Arm it while the connection is idle, send one request through
// the driver, then Take the stamp. While not armed it only passes bytes on.
//
// Read and Write may be called by one goroutine each at the same time; Arm and
// Take by the goroutine that holds the connection.
type Conn struct {
	from io.Reader
	to   io.Writer

	sent atomic.Uint64 // bytes
	asks *Question

	// busy is set from Arm until the last answer has been read: the one check
	// that a connection pays when nobody stamps.
	busy atomic.Bool

	mu       sync.Mutex // guards the fields below
	mode     Mode       // zero when not armed
	writer   scanner
	executes int    // Execute messages since the last Sync
	dirty    bool   // something was executed that no stamp has followed
	open     bool   // a request has begun and not ended
	guard    *Guard // still to be put into a request
	placed   place  // where it was put in the request that has not ended yet
	shift    int    // by how much it moved a simple query's text
	reader   filter
}

// New returns a Conn that reads what the server sends, and writes to it.
func New(from io.Reader, to io.Writer) *Conn { return &Conn{from: from, to: to, asks: position} }

// Ask makes q the question of stamps from now on, in place of [Position]. The
// connection must be idle and not armed.
func (c *Conn) Ask(q *Question) { c.asks = q }

// Arm makes each request from now on be stamped.
func (c *Conn) Arm(m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rearm()
	c.mode = m
	c.busy.Store(true)
}

// rearm forgets the requests before.
func (c *Conn) rearm() {
	c.mode, c.executes, c.dirty, c.writer, c.open = 0, 0, false, scanner{}, false
	c.guard, c.placed, c.shift = nil, noGuard, 0
	c.reader.lsn, c.reader.ok, c.reader.refused = "", false, false
}

// Take ends what Arm began and returns the position that the server answered
// after the last request, as text. ok is false when there is none: nothing was
// executed, the answer is still due, or the server refused to give it.
func (c *Conn) Take() (lsn string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = 0
	c.busy.Store(!c.reader.idle())
	return c.reader.lsn, c.reader.ok && !c.dirty && c.reader.idle()
}

// Write sends b, and with it the question when b ends a request.
func (c *Conn) Write(b []byte) (int, error) {
	out := b
	if c.busy.Load() {
		// The reader must know of the question before the server can answer it.
		out = c.prepare(b)
	}
	n, err := c.to.Write(out)
	c.sent.Add(uint64(n))
	return min(n, len(b)), err
}

// Sent returns how many bytes have been written. The driver is not asked: after
// a simple query it may call an error safe to retry although all was sent.
func (c *Conn) Sent() uint64 { return c.sent.Load() }

// prepare returns what to send in place of b.
func (c *Conn) prepare(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	guarded := c.guarded(b)
	var last byte
	c.writer.scan(b, func(typ byte) {
		last, c.open = typ, true
		switch typ {
		case 'E': // Execute
			c.dirty = true
			c.executes++
		case 'c', 'f', 'Q', 'F': // CopyDone, CopyFail, Query, FunctionCall
			c.dirty = true
		}
		switch typ {
		case 'Q', 'F', 'S':
			c.open = false
			c.reader.expect(request{})
			c.guarding(typ)
		}
		if typ == 'S' && c.executes > 0 {
			c.reader.last().executes = c.executes
			c.executes = 0
		}
	})
	if guarded != nil {
		return guarded
	}
	if c.mode == 0 || !c.dirty || !c.writer.whole() {
		return b
	}
	switch {
	case c.mode == Query && last == 'S' && c.reader.last().executes > 0 && bytes.HasSuffix(b, syncMessage):
		c.dirty = false
		c.reader.last().inline = afterCommit
		return splice(b, c.asks.inline, len(syncMessage))
	case c.mode == Query && last == 'Q' && bytes.Equal(b, commit):
		c.dirty = false
		*c.reader.last() = request{executes: 1, inline: atOnce}
		return c.asks.commit
	case c.mode == Query && last == 'Q', c.mode == Copy && (last == 'c' || last == 'f'):
		c.dirty = false
		c.reader.expect(request{ours: true})
		return splice(b, c.asks.alone, 0)
	}
	return b
}

// splice returns b with extra in it, tail bytes before its end.
func splice(b, extra []byte, tail int) []byte {
	out := make([]byte, 0, len(b)+len(extra))
	out = append(out, b[:len(b)-tail]...)
	out = append(out, extra...)
	return append(out, b[len(b)-tail:]...)
}

// Read passes on what the server sends, less the answers to stamps.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if c.busy.Load() {
			if n, err := c.deliver(p); n > 0 || err != nil {
				return n, err
			}
		}
		n, err := c.from.Read(p)
		if !c.busy.Load() {
			return n, err
		}
		c.take(p[:n], err)
	}
}

// deliver hands out bytes that were read before, then the error that followed.
func (c *Conn) deliver(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.reader.deliver(p)
	if c.mode == 0 && c.guard == nil && c.reader.idle() {
		c.busy.Store(false)
	}
	return n, err
}

func (c *Conn) take(b []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader.feed(b)
	if err != nil {
		c.reader.fail(err)
	}
}
