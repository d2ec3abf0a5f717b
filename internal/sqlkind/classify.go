package sqlkind

import (
	"strings"
	"unicode/utf8"
)

// Classify says what sql is. A text of several statements is a Read when each of
// them is; otherwise it is what the strongest of them is, where Write outranks
// Session and Session outranks Unknown. Empty statements do not count, and a
// text without any other is Unknown. So is a text that PostgreSQL could not
// take apart (an open quote, comment or parenthesis, a NUL byte, invalid UTF-8),
// unless a write was found in it before: what follows one is not looked at.
//
// A hint that cannot be understood makes Unknown of a Read and asks for the
// primary.
func Classify(sql string) Verdict {
	f, calls := judge(sql)
	hint, fault := hintOf(sql)
	if fault != "" {
		f = f.or(finding{Unknown, fault})
	}
	if hint.Session {
		f = f.or(finding{Session, "session hint"})
	}
	return Verdict{
		Kind: f.Kind, Reason: f.Reason, Hint: hint,
		Calls:  calls && f.Kind == Read,
		Leaves: f.Kind != Read && (hint.Session || Leaves(sql)),
	}
}

// judge is Classify without hints, which are comments to it. It reports as well
// whether a Read calls functions that are not known to change nothing.
func judge(sql string) (f finding, calls bool) {
	p := parser{lexer: lexer{src: sql}}
	f = p.text()
	if f.Kind == Read {
		// Inside quotes the lexer takes any byte. The server does not.
		if strings.IndexByte(sql, 0) >= 0 {
			return finding{Unknown, "NUL byte"}, false
		}
		if !utf8.ValidString(sql) {
			return finding{Unknown, "invalid UTF-8"}, false
		}
	}
	return f, p.calls
}

// finding is the kind of a part of a text, and the reason. It is made for each
// token, so it holds no more.
type finding struct {
	Kind   Kind
	Reason string
}

// or returns the stronger of two findings, the first of equals.
func (f finding) or(g finding) finding {
	if g.Kind.strength() > f.Kind.strength() {
		return g
	}
	return f
}

// parser walks over the tokens of a text and sees three of them at a time.
type parser struct {
	lexer
	before, last, cur token
	depth             int  // open parentheses
	with              bool // the statement has a WITH so far
	over              bool // cur ends it, or the text
	calls             bool // a query of the text calls what is not known to be innocent
}

// advance moves one token on and reports whether the statement goes on there.
func (p *parser) advance() bool {
	if p.over {
		return false
	}
	p.before, p.last = p.last, p.cur
	p.cur = p.next()
	switch p.cur.kind {
	case word:
		// After a dot or AS any word is a name.
		if !p.last.is('.') && p.last.word != "as" {
			p.cur.word = keyword(p.cur.text)
			p.with = p.with || p.cur.word == "with"
		}
	case symbol:
		switch p.cur.sym {
		case '(':
			p.depth++
		case ')':
			p.depth--
		case ';':
			p.over = true
		}
	case end, broken:
		p.over = true
	}
	if p.depth < 0 || p.over && p.depth > 0 && p.cur.kind != broken {
		p.cur = p.broken("unbalanced parenthesis")
		p.over = true
	}
	return !p.over
}

// rest moves to the end of the statement. Only its tokens matter from here.
func (p *parser) rest() {
	for p.advance() {
	}
}

// text returns the verdict on the whole text.
func (p *parser) text() finding {
	var all finding
	for some := false; ; {
		p.before, p.last, p.cur = token{}, token{}, token{}
		p.with, p.over = false, false
		if p.advance() {
			v := p.statement()
			if v.Kind == Write {
				return v
			}
			p.rest()
			if some {
				v = all.or(v)
			}
			all, some = v, true
		}
		switch {
		case p.cur.kind == broken:
			return finding{Unknown, p.fault}
		case p.cur.kind == end && some:
			return all
		case p.cur.kind == end:
			return finding{Unknown, "empty text"}
		}
	}
}

// statement returns the verdict on the statement that begins at cur. It may
// leave off anywhere in it.
func (p *parser) statement() finding {
	for p.cur.is('(') {
		p.advance()
	}
	first := p.cur.word
	switch first {
	case "select", "table", "values", "with":
		return p.query(finding{Read, first})
	case "copy":
		return p.copy()
	case "create":
		return p.create()
	case "explain":
		return p.explain()
	case "commit", "prepare", "rollback":
		// Two-phase commit takes a transaction away from its session.
		p.advance()
		if p.cur.word == "prepared" || p.cur.word == "transaction" && first == "prepare" {
			return finding{Write, first + " " + p.cur.word}
		}
	}
	if kind, ok := statements[first]; ok {
		return finding{kind, first}
	}
	return finding{Unknown, "unknown statement"}
}

// query reads a statement that is a query, and returns v or what is stronger in
// it. cur is its first keyword.
func (p *parser) query(v finding) finding {
	for v.Kind != Write && p.advance() {
		if found := p.look(); found.Kind != Read {
			v = v.or(found)
		}
	}
	return v
}

// look judges the tokens up to cur inside a query. Anything but a Read is
// something that a Read must not hold.
func (p *parser) look() finding {
	switch {
	case p.cur.is('('):
		if p.last.kind == word || p.last.kind == quoted {
			// After AS it is a list of columns. A schema may hold a function of the
			// user's under a name of the server's.
			p.calls = p.calls || p.before.word != "as" && (p.before.is('.') || p.last.kind != word || !innocent(p.last.text))
			return function(p.last.text)
		}
	case p.cur.kind == escaped, p.cur.word == "uescape" && p.last.kind == quoted:
		return finding{Unknown, "escaped name"}
	case p.cur.word == "into":
		switch p.last.word {
		case "insert", "merge":
			return finding{Write, p.last.word}
		}
		return finding{Write, "select into"}
	case p.locks():
		return finding{Write, "for " + p.cur.word}
	case p.changes():
		return finding{Write, p.last.word}
	case p.cur.kind == word || p.cur.kind == quoted:
		return relation(p.cur.text)
	}
	return finding{Kind: Read}
}

// locks reports whether cur ends FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE or FOR
// KEY SHARE.
func (p *parser) locks() bool {
	switch p.cur.word {
	case "update":
		return p.last.word == "for" || p.last.word == "key" && p.before.word == "no"
	case "share":
		return p.last.word == "for" || p.last.word == "key" && p.before.word == "for"
	}
	return false
}

// changes reports whether last begins a DELETE or UPDATE inside a query. These
// words may also name columns, so they count only where a statement can begin,
// after a parenthesis, and anywhere in a query with a WITH, whose own statement
// may follow a SEARCH or CYCLE clause. INSERT and MERGE show by their INTO.
func (p *parser) changes() bool {
	if !p.with && !p.before.is('(') && !p.before.is(')') {
		return false
	}
	switch p.last.word {
	case "delete":
		return p.cur.word == "from"
	case "update":
		return p.cur.name()
	}
	return false
}

// create tells temporary objects, which live in their session, from the others.
func (p *parser) create() finding {
	for p.advance() {
		switch p.cur.word {
		case "temp", "temporary":
			return finding{Session, "create temporary"}
		case "or", "replace", "global", "local":
		default:
			return finding{Write, "create"}
		}
	}
	return finding{Write, "create"}
}

// copy reads COPY. It is a read only to the client: COPY TO anything else writes
// a file of the server or runs a program there, and a standby allows that.
func (p *parser) copy() finding {
	v := finding{Read, "copy to stdout"}
	outer := p.depth
	for p.advance() {
		if p.depth == outer {
			switch {
			case p.cur.word == "from":
				return finding{Write, "copy from"}
			case p.last.word == "to" && p.cur.word == "stdout":
				return v // nothing but options follows
			case p.last.word == "to":
				return v.or(finding{Unknown, "copy to file"})
			}
		}
		if found := p.look(); found.Kind != Read {
			v = v.or(found)
		}
	}
	return v.or(finding{Unknown, "copy"})
}

// explain reads EXPLAIN, which runs what it explains only when told to ANALYZE.
// Otherwise it is a read even of a write, and a standby allows it.
func (p *parser) explain() finding {
	analyze := false
	p.advance()
	if p.cur.is('(') {
		p.advance()
		if p.cur.is('(') || queries[p.cur.word] {
			return p.planned() // no options but the query itself
		}
		analyze = p.options()
	}
	for ; ; p.advance() {
		if p.cur.word == "analyze" || p.cur.word == "analyse" {
			analyze = true
		} else if p.cur.word != "verbose" {
			break
		}
	}
	for p.cur.is('(') {
		p.advance()
	}
	switch _, known := statements[p.cur.word]; {
	case !known:
		return finding{Unknown, "explain"}
	case p.cur.word == "execute":
		return finding{Session, "execute"}
	case !analyze:
		return p.planned()
	}
	return p.statement()
}

// planned reads what EXPLAIN does not run, from its first keyword on. A new
// table is more than planned: a standby refuses a temporary one even so.
func (p *parser) planned() finding {
	if p.cur.word == "create" {
		return p.create()
	}
	for p.advance() {
		if p.cur.word == "into" && p.last.word != "insert" && p.last.word != "merge" {
			return finding{Write, "select into"}
		}
	}
	return finding{Read, "explain"}
}

// options reads the options of EXPLAIN from the first on, moves past their
// parenthesis and reports whether they may include ANALYZE.
func (p *parser) options() (analyze bool) {
	outer := p.depth
	for !p.over && p.depth >= outer {
		option, values, off := p.cur, 0, false
		for p.advance() && p.depth >= outer && !(p.depth == outer && p.cur.is(',')) {
			values++
			off = p.cur.word == "false" || p.cur.word == "off" || p.cur.text == "0"
		}
		switch {
		case option.kind != word:
			analyze = true // a quoted name may be written in many ways
		case strings.EqualFold(option.text, "analyze"), strings.EqualFold(option.text, "analyse"):
			analyze = analyze || values != 1 || !off
		}
		if p.cur.is(',') {
			p.advance()
		}
	}
	p.advance()
	return analyze
}
