package sqlkind

import "strings"

// Split cuts sql into its statements at the semicolons that end them, as
// PostgreSQL does. A statement keeps the comments before it and those inside, and
// loses the white space around it; empty statements are left out. What cannot be
// taken apart, such as a text after an open quote, is one statement to its end.
// The statements are parts of sql, not copies.
func Split(sql string) []string {
	l := lexer{src: sql}
	var all []string
	for {
		begin := l.pos
		some, more := l.statement()
		if !more {
			if some {
				all = append(all, trim(sql[begin:]))
			}
			return all
		}
		if some {
			all = append(all, trim(sql[begin:l.pos-1]))
		}
	}
}

// trim removes what the lexer takes for white space.
func trim(s string) string { return strings.Trim(s, " \t\n\r\f\v") }

// statement moves beyond the next semicolon that ends a statement. It reports
// whether there was anything before it, and whether there was a semicolon.
func (l *lexer) statement() (some, more bool) {
	var last token
	var body body
	depth := 0
	for words := 0; ; words++ {
		t := l.next()
		switch t.kind {
		case end:
			return some, false
		case broken:
			return true, false
		case word:
			if !last.is('.') && last.word != "as" {
				t.word = keyword(t.text)
			}
			body.see(words, last.word, t.word)
		case symbol:
			switch t.sym {
			case '(':
				depth++
			case ')':
				depth = max(0, depth-1)
			case ';':
				// Inside parentheses one divides the actions of a rule.
				if depth == 0 && body.open == 0 {
					return some, true
				}
			}
		}
		some, last = true, t
	}
}

// body follows CREATE FUNCTION and CREATE PROCEDURE, whose body may be statements
// between BEGIN ATOMIC and END.
type body struct {
	routine bool
	open    int // BEGIN and CASE without their END
}

// see takes the statement's next word and the one before it; words counts the
// tokens before it.
func (b *body) see(words int, last, word string) {
	switch word {
	case "function", "procedure":
		// CREATE [OR REPLACE] comes first.
		b.routine = b.routine || words == 1 && last == "create" || words == 3 && last == "replace"
	case "atomic":
		if b.routine && last == "begin" {
			b.open++
		}
	case "case":
		if b.open > 0 {
			b.open++
		}
	case "end":
		if b.open > 0 {
			b.open--
		}
	}
}
