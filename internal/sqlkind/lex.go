package sqlkind

import "strings"

// tokenKind is what the lexer found. Comments and white space are not tokens.
type tokenKind uint8

const (
	end     tokenKind = iota // the end of the text
	broken                   // something unterminated or impossible; lexer.fault says what
	word                     // keyword or unquoted identifier
	quoted                   // "identifier"
	escaped                  // U&"identifier" with escapes, which are not decoded
	literal                  // string, number or parameter
	symbol                   // one byte of punctuation or of an operator
)

// token is one lexical element of a text.
type token struct {
	kind tokenKind
	sym  byte   // the byte of a symbol
	text string // a name or number as written, without quotes
	word string // the keyword the parser found in it, see parser.advance
}

// is reports whether t is the symbol c.
func (t *token) is(c byte) bool { return t.kind == symbol && t.sym == c }

// name reports whether t may name a table or a function.
func (t *token) name() bool { return t.kind == word || t.kind == quoted || t.kind == escaped }

// class says what a byte can begin or continue outside of quotes.
type class uint8

const (
	other  class = iota
	space        // white space
	letter       // begins an identifier
	digit        // continues one
	punct        // stands for itself
)

var classes = func() (c [256]class) {
	for _, b := range " \t\n\r\f\v" {
		c[b] = space
	}
	for b := 'a'; b <= 'z'; b++ {
		c[b], c[b-'a'+'A'] = letter, letter
	}
	c['_'] = letter
	// Every byte of a character beyond ASCII belongs to an identifier, even of
	// one that Unicode calls a space: that is the server's rule.
	for b := 0x80; b <= 0xff; b++ {
		c[b] = letter
	}
	for b := '0'; b <= '9'; b++ {
		c[b] = digit
	}
	for _, b := range "()[],;:.~!@#^&|`?+-*/%<>=" {
		c[b] = punct
	}
	return c
}()

// lexer cuts a text into tokens. Operators come one byte at a time: where a
// comment begins inside a run of them is then found without rules of its own.
type lexer struct {
	src string
	pos int
	// fault is why the last token was broken.
	fault string
	// continued says that the last token was an E'' string. A string right after
	// it is its continuation and keeps its escapes.
	continued bool
}

// next returns the next token. After end or broken it returns the same again.
func (l *lexer) next() token {
	if !l.skip() {
		return token{kind: broken}
	}
	if l.pos == len(l.src) {
		return token{kind: end}
	}
	continued := l.continued
	l.continued = false
	start := l.pos
	c := l.src[start]
	switch classes[c] {
	case letter:
		return l.name(start, c)
	case digit:
		l.number()
		return token{kind: literal, text: l.src[start:l.pos]}
	case punct:
		l.pos++
		if c == '.' && l.class(l.pos) == digit {
			l.digits()
			return token{kind: literal}
		}
		return token{kind: symbol, sym: c}
	}
	switch c {
	case '\'':
		return l.text(start+1, continued)
	case '"':
		return l.identifier(start + 1)
	case '$':
		return l.dollar(start)
	}
	return l.broken("byte outside the language")
}

// broken ends the text: the cursor stays where it is.
func (l *lexer) broken(fault string) token {
	l.fault = fault
	return token{kind: broken}
}

// class returns the class of the byte at i, other beyond the end.
func (l *lexer) class(i int) class {
	if i < len(l.src) {
		return classes[l.src[i]]
	}
	return other
}

// has reports whether the text goes on with s at i.
func (l *lexer) has(i int, s string) bool { return strings.HasPrefix(l.src[i:], s) }

// skip passes white space and comments and reports whether they were whole.
func (l *lexer) skip() bool {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case classes[c] == space:
			l.pos++
		case c == '-' && l.has(l.pos, "--"):
			l.line()
		case c == '/' && l.has(l.pos, "/*"):
			if !l.comment() {
				l.fault = "unterminated comment"
				return false
			}
		default:
			return true
		}
	}
	return true
}

// line passes a comment that begins with two dashes.
func (l *lexer) line() {
	// A carriage return ends such a comment too.
	n := strings.IndexAny(l.src[l.pos:], "\r\n")
	if n < 0 {
		n = len(l.src) - l.pos
	}
	l.pos += n
}

// comment passes a block comment, which may hold others.
func (l *lexer) comment() bool {
	depth := 0
	for i := l.pos; i+1 < len(l.src); {
		switch l.src[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				l.pos = i
				return true
			}
		default:
			i++
		}
	}
	return false
}

// name reads an identifier, or the string that a prefix such as E begins.
func (l *lexer) name(start int, c byte) token {
	i := start + 1
	for i < len(l.src) {
		if k := classes[l.src[i]]; k != letter && k != digit && l.src[i] != '$' {
			break
		}
		i++
	}
	if i == start+1 && i < len(l.src) {
		switch next := l.src[i]; {
		case next == '\'' && (c == 'e' || c == 'E'):
			return l.text(i+1, true)
		case next == '&' && (c == 'u' || c == 'U') && l.has(i+1, "'"):
			return l.text(i+2, false)
		case next == '&' && (c == 'u' || c == 'U') && l.has(i+1, `"`):
			t := l.identifier(i + 2)
			if t.kind == quoted && strings.Contains(t.text, `\`) {
				t.kind = escaped
			}
			return t
		}
		// B'', N'' and X'' end where a plain string would: a name and a string.
	}
	l.pos = i
	return token{kind: word, text: l.src[start:i]}
}

// number passes digits and a fraction. What else a number can have (0xff, 1e9,
// 1_000) is left to be read as a name, since older servers take "1for update"
// as a number and two keywords.
func (l *lexer) number() {
	l.digits()
	if l.has(l.pos, ".") {
		l.pos++
		l.digits()
	}
}

func (l *lexer) digits() {
	for l.class(l.pos) == digit {
		l.pos++
	}
}

// text reads a string whose first byte is at i, with backslash escapes or
// without.
func (l *lexer) text(i int, escapes bool) token {
	first := i
	for {
		n := strings.IndexByte(l.src[i:], '\'')
		if n < 0 {
			return l.broken("unterminated string")
		}
		quote := i + n
		doubled := l.has(quote+1, "'")
		if backslashes(l.src[i:quote])%2 == 1 {
			if escapes {
				i = quote + 1
				continue
			}
			// The two settings of standard_conforming_strings find different
			// ends here. The one exception is what everybody writes after
			// ESCAPE, a text that the older setting could hardly finish.
			if quote != first+1 || doubled {
				return l.broken("backslash before a quote")
			}
		}
		if !doubled {
			l.pos = quote + 1
			l.continued = escapes
			return token{kind: literal}
		}
		i = quote + 2
	}
}

// backslashes counts those at the end of s.
func backslashes(s string) int {
	return len(s) - len(strings.TrimRight(s, `\`))
}

// identifier reads a quoted name whose first byte is at i. Doubled quotes stay
// doubled: no name that matters here has one.
func (l *lexer) identifier(i int) token {
	first := i
	for {
		n := strings.IndexByte(l.src[i:], '"')
		if n < 0 {
			return l.broken("unterminated identifier")
		}
		i += n + 1
		if !l.has(i, `"`) {
			l.pos = i
			return token{kind: quoted, text: l.src[first : i-1]}
		}
		i++
	}
}

// dollar reads a parameter such as $1 or a string such as $tag$...$tag$.
func (l *lexer) dollar(start int) token {
	i := start + 1
	if l.class(i) == digit {
		l.pos = i
		l.digits()
		return token{kind: literal}
	}
	for k := l.class(i); k == letter || k == digit; k = l.class(i) {
		i++
	}
	if !l.has(i, "$") {
		return l.broken("stray dollar sign")
	}
	tag := l.src[start : i+1]
	n := strings.Index(l.src[i+1:], tag)
	if n < 0 {
		return l.broken("unterminated string")
	}
	l.pos = i + 1 + n + len(tag)
	return token{kind: literal}
}
