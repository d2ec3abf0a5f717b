package stamp

import (
	"encoding/binary"
	"slices"
)

var (
	// commit is how the driver ends a transaction.
	commit      = simpleQuery("commit")
	syncMessage = message('S', nil)
)

// Question is what a stamp answers: a query for one text.
type Question struct {
	// alone is a request of its own, behind one of any kind.
	alone []byte
	// commit ends a transaction as the driver does, and asks, in one request.
	commit []byte
	// inline goes between the driver's last Execute and its Sync. The Sync would
	// commit, too late to ask. BEGIN makes what was executed so far a part of a
	// transaction block, as the manual says of pipelines, and COMMIT ends it. So all
	// is answered in one go.
	inline []byte
}

// position is what a connection asks for unless told otherwise.
var position = NewQuestion(Position)

// Position asks for the insert position. Not for the written one: with
// synchronous_commit off a commit returns before its record is written, and the
// written position may lie before it.
const Position = "select pg_current_wal_insert_lsn()"

// NewQuestion returns the question that query asks.
func NewQuestion(query string) *Question {
	return &Question{
		alone:  simpleQuery(query),
		commit: simpleQuery("commit; " + query),
		inline: slices.Concat(execute("begin"), execute("commit"), execute(query)),
	}
}

func message(typ byte, body []byte) []byte {
	b := append([]byte{typ, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
}

func simpleQuery(sql string) []byte { return message('Q', append([]byte(sql), 0)) }

// execute runs sql by the extended query protocol with the unnamed statement
// and portal, without parameters and with results as text.
func execute(sql string) []byte {
	parse := append(append([]byte{0}, sql...), 0, 0, 0)
	bind := []byte{0, 0, 0, 0, 0, 0, 0, 0}
	return slices.Concat(message('P', parse), message('B', bind), message('E', []byte{0, 0, 0, 0, 0}))
}

// headerSize is a message's type and its length, which counts itself.
const headerSize = 5

// scanner finds the messages in a stream that arrives in pieces.
type scanner struct {
	header [headerSize]byte // of the message last begun
	have   int              // bytes of the next header
	left   int              // bytes of the body still to come
}

// whole reports whether the stream so far ended with a message.
func (s *scanner) whole() bool { return s.have == 0 && s.left == 0 }

// step consumes the next part of b: some of a header or some of a body. It
// reports whether a message begins with it, its header being complete, and
// whether one ends.
func (s *scanner) step(b []byte) (n int, begins, ends bool) {
	if s.left > 0 {
		n = min(s.left, len(b))
		s.left -= n
		return n, false, s.left == 0
	}
	n = copy(s.header[s.have:], b)
	s.have += n
	if s.have < headerSize {
		return n, false, false
	}
	s.have = 0
	s.left = max(0, int(binary.BigEndian.Uint32(s.header[1:]))-4)
	return n, true, s.left == 0
}

// scan calls f with the type of each message that begins in b.
func (s *scanner) scan(b []byte, f func(typ byte)) {
	for len(b) > 0 {
		n, begins, _ := s.step(b)
		if begins {
			f(s.header[0])
		}
		b = b[n:]
	}
}

// dataRow returns the first column of a DataRow's body, as text.
func dataRow(body []byte) (string, bool) {
	if len(body) < 6 || binary.BigEndian.Uint16(body) != 1 {
		return "", false
	}
	n := int(int32(binary.BigEndian.Uint32(body[2:])))
	if n < 0 || len(body) < 6+n {
		return "", false
	}
	return string(body[6 : 6+n]), true
}
