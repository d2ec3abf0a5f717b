package stamp

import "encoding/binary"

// question is a simple query for the insert position. The insert position and
// not the written one: with synchronous_commit off a commit returns before its
// record is written, and the written position may lie before it.
var question = simpleQuery("select pg_current_wal_insert_lsn()")

func simpleQuery(sql string) []byte {
	b := append([]byte{'Q', 0, 0, 0, 0}, sql...)
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
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
