package sqlkind

import (
	"strings"
	"time"
)

// Target is where a hint wants its statement to run.
type Target uint8

const (
	// NoTarget leaves the choice to the router. It is the zero value.
	NoTarget Target = iota
	// Primary asks for the primary.
	Primary
	// Replica asks for a replica. It is no more than a wish: a Write goes to the
	// primary all the same.
	Replica
	// NamedNode asks for the node that Hint.Node names.
	NamedNode
)

// Hint is what a text asks for in a comment in front of its first statement:
//
//	/* pgtide: primary */                       the primary
//	/* pgtide: replica, max_staleness=500ms */  a replica no staler than that
//	/* pgtide: node=b */                        the node b
//	/* pgtide: session */                       bound to its server session
//
// Words are separated by commas or white space, and case matters only in a node's
// name. Other comments may stand before it, as generators and tracers put them
// there ("-- name: GetUser :one"); they are no hints, nor is /*+ ... */, nor is
// a second hint. The zero value is no hint.
type Hint struct {
	Target Target
	// Node is the name given with NamedNode, otherwise empty.
	Node string
	// MaxStaleness is how far behind a replica's data may be. Zero means that the
	// hint does not say.
	MaxStaleness time.Duration
	// Session says that the statement is bound to its server session, although
	// its text may not show it. Its Kind is then never a Read.
	Session bool
}

// String returns the hint as it is written after "pgtide: ", "" for no hint.
func (h Hint) String() string {
	var words []string
	switch h.Target {
	case Primary:
		words = append(words, "primary")
	case Replica:
		words = append(words, "replica")
	case NamedNode:
		words = append(words, "node="+h.Node)
	}
	if h.MaxStaleness > 0 {
		words = append(words, "max_staleness="+h.MaxStaleness.String())
	}
	if h.Session {
		words = append(words, "session")
	}
	return strings.Join(words, ", ")
}

// hintOf returns the hint in front of sql's first statement. One that cannot be
// understood, as a whole or in a part, asks for the primary, and fault says why.
func hintOf(sql string) (h Hint, fault string) {
	rest, ok := "", false
	for l := (lexer{src: sql}); !ok; {
		comment, more := l.leading()
		if !more {
			return Hint{}, ""
		}
		rest, ok = cutMark(comment)
	}
	body, _, closed := strings.Cut(rest, "*/")
	if !closed {
		return Hint{}, "" // no statement follows
	}
	if h, fault = parseHint(body); fault != "" {
		return Hint{Target: Primary}, fault
	}
	return h, ""
}

// leading passes what stands before the next block comment and that comment
// itself, unless a statement begins first. It returns the text from within the
// comment on.
func (l *lexer) leading() (rest string, ok bool) {
	for l.pos < len(l.src) {
		switch {
		case classes[l.src[l.pos]] == space:
			l.pos++
		case l.has(l.pos, "--"):
			l.line()
		case l.has(l.pos, "/*"):
			rest = l.src[l.pos+len("/*"):]
			if !l.comment() {
				l.pos = len(l.src)
			}
			return rest, true
		default:
			return "", false
		}
	}
	return "", false
}

// cutMark removes what makes a comment a hint, "pgtide:" in any case and spacing.
func cutMark(comment string) (rest string, ok bool) {
	const mark = "pgtide"
	rest = strings.TrimLeft(comment, " \t\r\n\f\v")
	if len(rest) < len(mark) || !strings.EqualFold(rest[:len(mark)], mark) {
		return "", false
	}
	return strings.CutPrefix(strings.TrimLeft(rest[len(mark):], " \t\r\n\f\v"), ":")
}

// parseHint reads the words of a hint.
func parseHint(body string) (h Hint, fault string) {
	words := strings.FieldsFunc(body, func(r rune) bool {
		return r == ',' || r < 0x80 && classes[r] == space
	})
	if len(words) == 0 {
		return h, "empty hint"
	}
	for _, w := range words {
		key, value, valued := strings.Cut(w, "=")
		key = strings.ToLower(key)
		target := NoTarget
		switch {
		case key == "primary" && !valued:
			target = Primary
		case key == "replica" && !valued:
			target = Replica
		case key == "session" && !valued:
			h.Session = true
		case key == "node":
			if value == "" || strings.ContainsAny(value, `'"=/*`) {
				return h, "no node's name in a hint"
			}
			target = NamedNode
			h.Node = strings.Clone(value) // a verdict must not hold on to its text
		case key == "max_staleness":
			d, err := time.ParseDuration(strings.ToLower(value))
			if err != nil || d <= 0 || h.MaxStaleness > 0 {
				return h, "no usable max_staleness in a hint"
			}
			h.MaxStaleness = d
		default:
			return h, "unknown word in a hint"
		}
		if target != NoTarget {
			if h.Target != NoTarget {
				return h, "two targets in a hint"
			}
			h.Target = target
		}
	}
	return h, ""
}
