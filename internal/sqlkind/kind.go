// Package sqlkind says what a PostgreSQL statement is, from its text alone: a
// read, a write, bound to its server session, or unknown.
//
// # Guarantees
//
// Only a [Read] may be sent to a replica, so every doubt ends in another kind.
// A standby is the better judge of writes: it refuses nearly all of them with
// SQLSTATE 25006 before doing anything. The duty of this package is therefore
// what a standby would allow without a word, although it means something else
// there: advisory locks, SET and set_config, exported snapshots, dblink,
// promotion, terminated backends, another server's statistics and their kin.
// Those are never a Read when the text names them.
//
// What no text can show is a function of the user's own: "select f()" is a Read
// until somebody learns better. If f writes, a replica refuses it; the caller
// tells [Cache.Learn], and the text is a Write from then on. If it takes an
// advisory lock, or sends a message to elsewhere, no replica objects: a [Hint]
// says so, or the caller's context. The same goes for views of the user's own and
// for a sequence read like a table, which a standby knows in advance.
//
// What is told by name is derived from the catalogs of real standbys and compared
// with them by tests, and so is what reads leave behind there: nothing.
//
// The text is taken as the server's lexer takes it with
// standard_conforming_strings on, its default. A plain string in which the
// older setting would find another end makes the text Unknown.
//
// Classification is one pass, linear in the length of the text, and never
// recurses with it. Everything here is safe for concurrent use.
package sqlkind

import "fmt"

// Kind is what a statement is.
type Kind uint8

const (
	// Unknown may be anything, a write included. It is the zero value.
	Unknown Kind = iota
	// Read changes nothing and may run on a replica.
	Read
	// Session is bound to the server session it runs in: it changes that
	// session or depends on what was done in it before (SET, PREPARE, FETCH,
	// BEGIN, temporary tables, advisory locks). Some of them also write: EXECUTE
	// and COMMIT do what was prepared or begun before.
	Session
	// Write changes data, or is refused by a standby.
	Write
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	switch k {
	case Unknown:
		return "unknown"
	case Read:
		return "read"
	case Session:
		return "session"
	case Write:
		return "write"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// strength orders kinds for a text of several parts. What is certain of one part
// is certain of the whole, so Session and Write outrank Unknown.
func (k Kind) strength() int {
	switch k {
	case Read:
		return 0
	case Session:
		return 2
	case Write:
		return 3
	}
	return 1
}

// Verdict is the answer about one text.
type Verdict struct {
	Kind Kind
	// Reason is the keyword or function that decided, in lower case, or a short
	// phrase where no single word did. It never holds a value from the text.
	Reason string
	// Calls says that a Read calls a function that is not known to change nothing,
	// see [Calls]: at a primary it may be a write. What EXPLAIN only plans is not
	// called.
	Calls bool
	// Leaves says what [Leaves] does. A Read leaves nothing.
	Leaves bool
	// Hint is what a comment at the start of the text asks for. It may make of a
	// Read something else, but never the other way round: a Write stays one.
	Hint Hint
}

// String returns the kind and the reason, as in "session: set_config".
func (v Verdict) String() string {
	if v.Reason == "" {
		return v.Kind.String()
	}
	return v.Kind.String() + ": " + v.Reason
}
