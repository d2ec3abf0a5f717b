package pgtidetest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net"
	"strings"
	"sync"
)

// wire is one connection through a relay. It knows which answer of the server
// belongs to which statement of the client.
type wire struct {
	relay          *relay
	client, server net.Conn
	watch          bool   // it is pgtide's own, for probes
	driver         string // which connection of the driver it is, once that is known; the witness's to guard

	mu       sync.Mutex // guards the fields below
	prepared map[string]*preparedText
	portals  map[string]*portal
	pending  []item
	callers  []site // of the statements up to the next Sync
	asked    bool   // callers are known
	batch    []*statement
	status   byte // of the transaction, as of the last ReadyForQuery
}

// preparedText is a prepared statement.
type preparedText struct {
	text    string
	columns []column
}

type portal struct {
	*preparedText
	args uint64
}

// item is something that the server will answer.
type item struct {
	kind      byte // of the client's message
	statement *statement
	described *preparedText
}

func newWire(r *relay, client, server net.Conn, application string) *wire {
	return &wire{
		relay: r, client: client, server: server, watch: application == "pgtide watch",
		prepared: map[string]*preparedText{}, portals: map[string]*portal{}, status: 'I',
	}
}

func (w *wire) forget() { w.relay.witness.forget(w) }

func (w *wire) fromClient(in *bufio.Reader) { _ = pass(in, w.server, w.said) }

func (w *wire) fromServer() {
	_ = pass(bufio.NewReader(w.server), w.client, w.answered)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.pending {
		if i.statement != nil {
			w.relay.witness.ended(i.statement, func() { i.statement.err = "the connection was lost" })
		}
	}
}

// said looks at a message of the client before it is sent on.
func (w *wire) said(kind byte, body []byte) error {
	if w.watch {
		return nil
	}
	switch kind {
	case 'P':
		name, rest := cutText(body)
		text, _ := cutText(rest)
		w.mu.Lock()
		w.prepared[name] = &preparedText{text: text}
		w.mu.Unlock()
	case 'B':
		name, rest := cutText(body)
		source, args := cutText(rest)
		h := fnv.New64a()
		h.Write(args)
		w.mu.Lock()
		if p := w.prepared[source]; p != nil {
			w.portals[name] = &portal{p, h.Sum64()}
		}
		w.mu.Unlock()
	case 'D':
		if len(body) == 0 {
			return errors.New("a message that describes nothing")
		}
		name, _ := cutText(body[1:])
		i := item{kind: kind}
		w.mu.Lock()
		if p := w.portals[name]; body[0] == 'P' && p != nil {
			i.described = p.preparedText
		} else if body[0] == 'S' {
			i.described = w.prepared[name]
		}
		w.pending = append(w.pending, i)
		w.mu.Unlock()
	case 'E':
		name, _ := cutText(body)
		w.mu.Lock()
		p := w.portals[name]
		w.mu.Unlock()
		if p == nil {
			p = &portal{preparedText: &preparedText{}}
		}
		w.begin(kind, p)
	case 'Q':
		text, _ := cutText(body)
		w.begin(kind, &portal{preparedText: &preparedText{text: text}})
		w.endOfBatch()
	case 'S':
		w.mu.Lock()
		w.pending = append(w.pending, item{kind: kind})
		w.mu.Unlock()
		w.endOfBatch()
	case 'F':
		w.mu.Lock()
		w.pending = append(w.pending, item{kind: kind})
		w.mu.Unlock()
	}
	return nil
}

func (w *wire) endOfBatch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = false
}

// begin notes that a statement is about to be sent on. The witness may keep it for
// a moment.
func (w *wire) begin(kind byte, p *portal) {
	w.mu.Lock()
	if !w.asked && w.relay.witness.watching() {
		w.mu.Unlock()
		callers := w.relay.witness.callers(w)
		w.mu.Lock()
		w.callers, w.asked = callers, true
	}
	s := &statement{node: w.relay.node, text: p.text, args: p.args, columns: p.columns, callers: w.callers}
	w.mu.Unlock()
	if !w.relay.witness.began(s) {
		s = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, item{kind: kind, statement: s, described: p.preparedText})
}

// answered looks at a message of the server before it is sent on.
func (w *wire) answered(kind byte, body []byte) error {
	if w.watch {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if kind == 'Z' {
		return w.ready(body[0])
	}
	if len(w.pending) == 0 {
		return nil // before the first statement
	}
	i := &w.pending[0]
	s := i.statement
	switch kind {
	case 'T', 'n':
		if i.described != nil && kind == 'T' {
			i.described.columns = columns(body)
			if s != nil {
				s.columns = i.described.columns
			}
		}
		if i.kind == 'D' {
			w.pending = w.pending[1:]
		}
	case 'D':
		if s != nil {
			if s.columns == nil && i.described != nil {
				s.columns = i.described.columns // described in the same round trip
			}
			s.add(body)
		}
	case 'C', 'I', 's':
		if tag, _ := cutText(body); s != nil && kind == 'C' {
			w.batch = append(w.batch, s)
			w.relay.witness.ended(s, func() { s.finish(tag) })
		}
		if i.kind == 'E' {
			w.pending = w.pending[1:]
		}
	case 'E':
		w.refused(errorCode(body))
	}
	return nil
}

// refused ends what an error ends: everything up to the next ReadyForQuery.
func (w *wire) refused(code string) {
	if len(w.pending) > 0 && w.pending[0].kind == 'D' {
		w.unprepared()
	}
	first := true
	for len(w.pending) > 0 {
		i := w.pending[0]
		if i.statement != nil && first {
			first = false
			w.relay.witness.ended(i.statement, func() { i.statement.err = code })
		}
		if i.kind == 'S' || i.kind == 'Q' || i.kind == 'F' {
			break
		}
		w.pending = w.pending[1:]
	}
	if w.status == 'I' {
		w.batch = nil // without a transaction around it, all of it is undone
	}
}

// unprepared has the witness know of a statement that was refused before it was
// executed, as when its table is not there yet. Its author still waits.
func (w *wire) unprepared() {
	p := w.pending[0].described
	if p == nil || !w.relay.witness.watching() {
		return
	}
	s := &statement{node: w.relay.node, text: p.text, callers: w.relay.witness.callers(w)}
	if w.relay.witness.began(s) {
		w.pending[0].statement = s
	}
}

// ready ends a round trip, and with it perhaps a transaction.
func (w *wire) ready(status byte) error {
	if len(w.pending) > 0 {
		w.pending = w.pending[1:]
	}
	w.status = status
	if status != 'I' {
		return nil
	}
	done := w.batch
	w.batch = nil
	if n := len(done); n > 0 && strings.HasSuffix(done[n-1].tag, "ROLLBACK") {
		return nil
	}
	w.relay.witness.committed(w.relay.node, done)
	if w.relay.witness.severs(done) {
		return errors.New("the answer is not passed on")
	}
	return nil
}

// column is what the rows of a statement have.
type column struct {
	name string
	kind uint32 // the type's OID
}

func columns(body []byte) []column {
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	var all []column
	for range n {
		name, rest := cutText(body)
		if len(rest) < 18 {
			return nil
		}
		all = append(all, column{name, binary.BigEndian.Uint32(rest[6:])})
		body = rest[18:]
	}
	return all
}

// errorCode returns the SQLSTATE of an ErrorResponse.
func errorCode(body []byte) string {
	for len(body) > 1 {
		field := body[0]
		var text string
		if text, body = cutText(body[1:]); field == 'C' {
			return text
		}
	}
	return ""
}

// cutText takes a text that ends with a zero off a message.
func cutText(body []byte) (string, []byte) {
	text, rest, _ := bytes.Cut(body, []byte{0})
	return string(text), rest
}
