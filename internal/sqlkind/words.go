package sqlkind

// statements says what a statement is by its first word. parser.statement takes
// a second look at some; COPY and EXPLAIN are no kind of their own.
var statements = map[string]Kind{
	"select": Read, "show": Read, "table": Read, "values": Read, "with": Read,

	"abort": Session, "begin": Session, "close": Session, "commit": Session,
	"deallocate": Session, "declare": Session, "discard": Session, "end": Session,
	"execute": Session, "fetch": Session, "listen": Session, "load": Session,
	"lock": Session, "move": Session, "notify": Session, "prepare": Session,
	"release": Session, "reset": Session, "rollback": Session,
	"savepoint": Session, "set": Session, "start": Session, "unlisten": Session,

	"alter": Write, "analyse": Write, "analyze": Write, "call": Write,
	"checkpoint": Write, "cluster": Write, "comment": Write, "create": Write,
	"delete": Write, "do": Write, "drop": Write, "grant": Write, "import": Write,
	"insert": Write, "merge": Write, "reassign": Write, "refresh": Write,
	"reindex": Write, "repack": Write, "revoke": Write, "security": Write,
	"truncate": Write, "update": Write, "vacuum": Write,
}

// queries are the words that begin a query.
var queries = map[string]bool{"select": true, "table": true, "values": true, "with": true}

// keywords holds every word the parser and Split ask for, as the key and as the value, so
// that a lookup by bytes gives a string without allocating one.
var keywords = func() map[string]string {
	m := map[string]string{}
	for w := range statements {
		m[w] = w
	}
	for _, w := range []string{
		"as", "atomic", "case", "constraints", "copy", "explain", "false", "for",
		"from", "function", "global", "hold", "into", "key", "local", "no", "off", "on", "or",
		"prepared", "procedure", "replace", "share", "stdout", "temp",
		"temporary", "to", "transaction", "uescape", "verbose",
	} {
		m[w] = w
	}
	return m
}()

// longestKeyword bounds what keyword looks at: "constraints", "transaction".
const longestKeyword = 11

// keyword returns the keyword that text is, in lower case, or "" if the parser
// asks for no such word.
func keyword(text string) string {
	if len(text) > longestKeyword {
		return ""
	}
	var buf [longestKeyword]byte
	return keywords[string(lower(buf[:], text))]
}

// lower writes text to buf in lower case, cut to its length. Like the server with
// keywords, it knows ASCII only.
func lower(buf []byte, text string) []byte {
	n := copy(buf, text)
	for i, c := range buf[:n] {
		if 'A' <= c && c <= 'Z' {
			buf[i] = c + 'a' - 'A'
		}
	}
	return buf[:n]
}
