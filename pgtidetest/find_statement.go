package pgtidetest

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgtide/pgtide/internal/sqlkind"
)

// statement is one that a node was sent. The wire that carries it fills it in; once
// it has ended it is not changed.
type statement struct {
	order   int // of its beginning, in the run
	request request
	node    string
	text    string
	args    uint64 // a digest
	columns []column
	callers []site // whose it may be; more than one if that cannot be told

	// What the witness found when it began.
	replica bool       // the node was one
	behind  bool       // and had not applied after yet
	after   *statement // the last write that was known to be committed
	unsure  bool       // the node had not applied all that had come before, which may have written

	rows   int
	digest uint64 // of the rows in any order
	tag    string
	err    string // a SQLSTATE, or words
	ended  bool
}

// request is the part of the run that a statement belongs to.
type request struct {
	n    int
	name string // such as GET /
}

// masked are the types whose values differ from run to run for good reasons.
var masked = map[uint32]bool{
	pgtype.TimestamptzOID: true, pgtype.TimestampOID: true, pgtype.DateOID: true,
	pgtype.TimeOID: true, pgtype.TimetzOID: true, pgtype.UUIDOID: true,
	pgtype.XIDOID: true, pgtype.XID8OID: true, 3220: true, // pg_lsn
}

// add counts a row.
func (s *statement) add(body []byte) {
	h := fnv.New64a()
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for i := range n {
		length := int(int32(binary.BigEndian.Uint32(body)))
		if i < len(s.columns) && masked[s.columns[i].kind] && length >= 0 {
			h.Write([]byte("masked"))
		} else {
			h.Write(body[:4+max(length, 0)])
		}
		body = body[4+max(length, 0):]
	}
	s.rows++
	s.digest += h.Sum64()
}

func (s *statement) finish(tag string) {
	if s.tag != "" {
		s.tag += "; "
	}
	s.tag += tag
}

// reads reports whether the statement shows data: what it shows may be stale.
func (s *statement) reads() bool {
	verb, _, _ := strings.Cut(s.tag, " ")
	switch {
	case s.err != "":
		return sqlkind.Classify(s.text).Kind == sqlkind.Read
	case verb != "SELECT" && verb != "FETCH" && verb != "COPY" && verb != "":
		return false
	}
	return showsData(s.text)
}

// showsData leaves out what asks the server about itself, as pools and routers do.
func showsData(text string) bool {
	if sqlkind.Calls(serverFunction.ReplaceAllLiteralString(text, "abs(")) {
		return true
	}
	text = serverFunction.ReplaceAllLiteralString(text, "pg_stat(") // may stand behind "from"
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !(r == '_' || r == '.' || r == '"' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || r > 127)
	})
	for i, w := range words {
		switch w {
		case "from", "join":
			if i+1 < len(words) && !asksServer(words[i+1]) {
				return true
			}
		case "table", "fetch", "execute", "copy":
			return true
		}
	}
	return false
}

// serverFunction matches calls of functions such as pg_is_in_recovery: none shows
// the rows of a table.
var serverFunction = regexp.MustCompile(`(?i)\b(pg_catalog\.)?pg_\w+\s*\(`)

// asksServer reports whether a relation is one of the server's views of itself,
// which are not replicated.
func asksServer(relation string) bool {
	relation = strings.TrimPrefix(relation, "pg_catalog.")
	return strings.HasPrefix(relation, "pg_stat") || strings.HasPrefix(relation, "pg_control") ||
		relation == "pg_settings" || relation == "pg_replication_slots" || relation == "pg_locks"
}

// wrote reports whether the statement surely changed something that others see.
func (s *statement) wrote() bool {
	kind := sqlkind.Classify(s.text).Kind
	for tag := range strings.SplitSeq(s.tag, "; ") {
		words := strings.Fields(tag)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "INSERT", "UPDATE", "DELETE", "MERGE":
			if words[len(words)-1] != "0" {
				return true
			}
		case "COPY":
			if words[len(words)-1] != "0" && kind != sqlkind.Read {
				return true
			}
		case "CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "GRANT", "REVOKE", "REFRESH", "IMPORT", "SECURITY":
			if kind != sqlkind.Session { // such as a temporary table
				return true
			}
		case "SELECT":
			if kind == sqlkind.Write { // with inserted as (insert ...), into, nextval
				return true
			}
		}
	}
	return false
}

// mayWrite reports whether the statement may have changed something, which its
// text and the server's word do not always show.
func (s *statement) mayWrite() bool {
	return s.wrote() || sqlkind.Classify(s.text).Kind != sqlkind.Read || sqlkind.Calls(s.text)
}

// outcome is what the caller saw, in words.
func (s *statement) outcome() string {
	switch {
	case s.err != "":
		return "error " + s.err
	case s.rows == 1:
		return "1 row"
	}
	return fmt.Sprintf("%d rows", s.rows)
}

// same reports whether s and other showed the same.
func (s *statement) same(other *statement) bool {
	return s.err == other.err && s.rows == other.rows && s.digest == other.digest
}

// line is one line of the trace.
func (s *statement) line() string {
	role := "primary"
	if s.replica {
		role = "replica"
	}
	outcome := s.tag
	switch {
	case s.err != "":
		outcome = "error " + s.err
	case !s.ended:
		outcome = "no answer"
	}
	return fmt.Sprintf("%s  %s (%s)  %s  → %s", sites(s.callers), s.node, role, short(s.text), outcome)
}
