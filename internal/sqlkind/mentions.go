package sqlkind

import (
	"strings"
	"sync/atomic"
)

// Mentions are the names in a text that may stand for a table, view or sequence:
// all names, for which of them is a column's, an alias's or a function's does not
// show. Only reserved words are left out where they cannot be the name of a relation.
type Mentions struct {
	// Names are folded as the server does it, without their schemas, each once.
	Names []string
	// Own is the first thing in the text that is a server's own, so that another
	// server gives another answer even with the same tables: a catalog, a system
	// column, an object identifier, a setting.
	Own string

	verdict atomic.Pointer[fitness]
}

// Judge says of names which servers have all of them, as a bit mask.
type Judge interface {
	comparable
	Fit(names []string) uint64
}

// fitness is what one judge said.
type fitness struct {
	judge any
	set   uint64
}

// Fit returns what j says of the names. It remembers what the last judge said.
func Fit[J Judge](m *Mentions, j J) uint64 {
	if f := m.verdict.Load(); f != nil {
		if by, ok := f.judge.(J); ok && by == j {
			return f.set
		}
	}
	f := &fitness{judge: j}
	if m.Own == "" {
		f.set = j.Fit(m.Names)
	}
	m.verdict.Store(f)
	return f.set
}

// Unfit makes Fit say of the servers in set that they are not fit, as long as the
// same judge is asked: one of them has said so.
func Unfit[J Judge](m *Mentions, j J, set uint64) {
	m.verdict.Store(&fitness{j, Fit(m, j) &^ set})
}

// mostNames bounds what is kept of a text.
const mostNames = 500

// MentionsOf returns what sql mentions. A text that is broken, or mentions too
// much, has its fault in Own.
func MentionsOf(sql string) *Mentions {
	m := &Mentions{}
	seen := map[string]bool{}
	l := lexer{src: sql}
	var before, last token
	for first := true; ; first = false {
		t := l.next()
		// The token before is judged now that it shows what follows it.
		if last.name() {
			m.add(last, before.is('.'), t.is('('), seen)
		}
		if first && t.kind == word && (strings.EqualFold(t.text, "show") || strings.EqualFold(t.text, "explain")) {
			m.own(strings.ToLower(t.text))
		}
		switch {
		case t.kind == end:
			return m
		case t.kind == broken:
			m.own(l.fault)
			return m
		}
		before, last = last, t
	}
}

func (m *Mentions) own(what string) {
	if m.Own == "" {
		m.Own = what
	}
}

// add takes in a name. dotted says that it comes after a dot, called that a
// parenthesis follows.
func (m *Mentions) add(t token, dotted, called bool, seen map[string]bool) {
	name := t.text
	switch {
	case t.kind == escaped || len(name) > longestName:
		m.own("a name that is escaped or too long")
		return
	case t.kind == quoted:
		name = strings.ReplaceAll(name, `""`, `"`)
	default:
		name = strings.ToLower(name) // beyond ASCII too, as some servers do
		if name != t.text && !ascii(name) {
			m.own("a name with letters that servers fold in different ways")
		}
	}
	if serverOwn(name, called) {
		m.own(name)
	}
	if seen[name] || t.kind == word && !dotted && reserved[name] {
		return
	}
	if len(m.Names) == mostNames {
		m.own("too many names")
		return
	}
	seen[name] = true
	m.Names = append(m.Names, strings.Clone(name))
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// serverOwn reports whether a name stands for something of one server alone.
func serverOwn(name string, called bool) bool {
	switch {
	case strings.HasPrefix(name, "pg_"):
		return !alike[name]
	case own[name]:
		return true
	case !called:
		return false
	}
	return ownFunctions[name] || strings.HasPrefix(name, "to_reg") || strings.HasPrefix(name, "txid_") ||
		strings.HasPrefix(name, "has_") && strings.HasSuffix(name, "_privilege") || strings.HasSuffix(name, "_description")
}

func words(text string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(text) {
		m[w] = true
	}
	return m
}

var (
	// alike are the pg_ names that mean the same on every server.
	alike = words(`pg_catalog pg_typeof pg_basetype pg_sleep pg_sleep_for pg_sleep_until
		pg_size_pretty pg_size_bytes pg_input_is_valid pg_input_error_info pg_lsn`)

	own = words(`information_schema ctid xmin xmax cmin cmax tableoid current_catalog
		regclass regcollation regconfig regdictionary regnamespace regoper regoperator
		regproc regprocedure regrole regtype`)

	ownFunctions = words(`current_database current_schema current_schemas current_setting
		database_to_xmlschema format_type getdatabaseencoding inet_server_addr
		inet_server_port mxid_age row_security_active satisfies_hash_partition
		schema_to_xmlschema table_to_xmlschema version`)

	// reserved are the keywords that name no relation unless quoted or after a dot.
	reserved = words(`all analyse analyze and any array as asc asymmetric authorization
		binary both case cast check collate collation column concurrently constraint
		create cross current_catalog current_date current_role current_schema
		current_time current_timestamp current_user default deferrable desc distinct do
		else end except false fetch for foreign freeze from full grant group having
		ilike in initially inner intersect into is isnull join lateral leading left like
		limit localtime localtimestamp natural not notnull null offset on only or order
		outer overlaps placing primary references returning right select session_user
		similar some symmetric system_user table tablesample then to trailing true
		union unique user using variadic verbose when where window with`)
)
