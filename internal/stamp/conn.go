package stamp

import (
	"net"
	"sync"
	"sync/atomic"
)

// Mode is what kind of request the next stamp follows.
type Mode uint8

const (
	Query Mode = iota + 1 // statements, batches, COMMIT
	Copy                  // COPY FROM STDIN: the request ends when the data does
)

// A ReadyForQuery of any status, as the end of [Conn.tail].
const (
	ready     = 'Z'<<40 | 5<<8
	readyMask = 1<<48 - 1<<8
)

// Conn is a connection to a server that can stamp requests. Arm it while the
// connection is idle, send one request through the driver, then Take the
// stamp. While not armed it only passes bytes on.
//
// Read and Write may be called by one goroutine each at the same time, as with
// any net.Conn; Arm and Take by the goroutine that holds the connection.
type Conn struct {
	net.Conn

	// busy is set from Arm until the last answer has been read. It changes under
	// mu and may be read without.
	busy atomic.Bool

	mu     sync.Mutex // guards the fields below
	mode   Mode       // zero when not armed
	writer scanner
	dirty  bool // something was executed that no stamp has followed
	reader filter
	tail   uint64 // the last eight bytes that the server sent
}

// Wrap returns a Conn over c.
func Wrap(c net.Conn) *Conn { return &Conn{Conn: c} }

// Arm makes each request from now on be followed by a stamp. It does nothing
// when what was read last is not the end of a request but a part of something
// that the server sent by itself, such as a notification: then nobody here
// knows where the next message begins.
func (c *Conn) Arm(m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reader.lsn, c.reader.ok = "", false
	if !c.busy.Load() && c.tail&readyMask != ready {
		return
	}
	c.mode, c.dirty = m, false
	c.busy.Store(true)
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

// Write sends b, and after it the question when b ends a request.
func (c *Conn) Write(b []byte) (int, error) {
	if !c.busy.Load() {
		return c.Conn.Write(b)
	}
	// The reader must know of the question before the server can answer it.
	out := c.prepare(b)
	n, err := c.Conn.Write(out)
	return min(n, len(b)), err
}

func (c *Conn) prepare(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	ends := false
	c.writer.scan(b, func(typ byte) {
		ends = false
		switch typ {
		case 'E', 'c', 'f': // Execute, CopyDone, CopyFail
			c.dirty = true
			ends = c.mode == Copy && typ != 'E'
		case 'Q', 'F': // Query, FunctionCall
			c.dirty = true
			c.reader.expect(users)
			ends = c.mode == Query
		case 'S': // Sync
			c.reader.expect(users)
			ends = c.mode == Query && c.dirty
		}
	})
	if c.mode == 0 || !ends || !c.writer.whole() {
		return b
	}
	c.dirty = false
	c.reader.expect(ours)
	return append(b[:len(b):len(b)], question...)
}

// Read passes on what the server sends, less the answers to stamps.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if c.busy.Load() {
			if n, err := c.deliver(p); n > 0 || err != nil {
				return n, err
			}
		}
		n, err := c.Conn.Read(p)
		if !c.take(p[:n], err) {
			return n, err
		}
	}
}

// deliver hands out bytes that were read before, then the error that followed.
func (c *Conn) deliver(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.reader.deliver(p)
	if c.mode == 0 && c.reader.idle() {
		c.busy.Store(false)
	}
	return n, err
}

// take gives what was read to the filter. It reports false when the filter has
// nothing to do with it.
func (c *Conn) take(b []byte, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range b[max(0, len(b)-8):] {
		c.tail = c.tail<<8 | uint64(x)
	}
	if !c.busy.Load() {
		return false
	}
	c.reader.feed(b)
	if err != nil {
		c.reader.fail(err)
	}
	return true
}
