package sqlcase

import (
	"math/rand/v2"
	"strings"
)

// Random returns n statements, the same for the same seed.
func Random(seed uint64, n int) []string {
	r := rand.New(rand.NewPCG(seed, seed))
	all := make([]string, n)
	for i := range all {
		choices := make([]byte, 16+r.IntN(112))
		for j := range choices {
			choices[j] = byte(r.Uint32())
		}
		all[i] = Compose(choices)
	}
	return all
}

// Compose makes a text of one statement or a few. Each byte of choices decides
// something; when they are used up everything takes its first and simplest form,
// so the text is not much longer than choices. Most texts are accepted by the
// grammar of the server.
func Compose(choices []byte) string {
	c := composer{choices: choices}
	c.expand("text")
	return c.text.String()
}

// composer walks down the grammar.
type composer struct {
	choices []byte
	text    strings.Builder
}

// choose returns a number from 0 to n-1.
func (c *composer) choose(n int) int {
	if len(c.choices) == 0 {
		return 0
	}
	choice := int(c.choices[0]) % n
	c.choices = c.choices[1:]
	return choice
}

// verbatim are the rules whose forms are one word, whatever they hold.
var verbatim = map[string]bool{"comment": true, "text_value": true, "query_text": true, "block": true}

// expand writes one of the forms of a rule. In a form {name} is a rule and {!name}
// one whose word is spelt in one of the ways that a name can be.
func (c *composer) expand(rule string) {
	forms := grammar[rule]
	if len(forms) == 0 {
		panic("sqlcase: no rule " + rule)
	}
	form := forms[c.choose(len(forms))]
	if verbatim[rule] {
		c.word(form)
		return
	}
	for _, word := range strings.Fields(form) {
		switch {
		case strings.HasPrefix(word, "{!"):
			names := grammar[word[2:len(word)-1]]
			c.name(names[c.choose(len(names))])
		case word[0] == '{' && len(word) > 2:
			c.expand(word[1 : len(word)-1])
		default:
			c.word(word)
		}
	}
}

// spaces are what may stand between two words. A plain space is most likely.
var spaces = []string{
	" ", " ", " ", " ", " ", " ", " ", "\n", "\t ", "/**/", " /* ; ' */ ", " /* a /* \" */ $$ */ ",
	" -- '; delete from t\n", " --\r", "\f",
}

// word writes what precedes a word, and the word in some case.
func (c *composer) word(word string) {
	if c.text.Len() > 0 {
		c.text.WriteString(spaces[c.choose(len(spaces))])
	}
	if !strings.ContainsAny(word, `'"$`) && word == strings.ToLower(word) {
		switch c.choose(8) {
		case 6:
			word = strings.ToUpper(word)
		case 7:
			word = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	c.text.WriteString(word)
}

// name writes a name as it is, quoted, with an escape, or with its schema.
func (c *composer) name(name string) {
	switch c.choose(16) {
	case 12:
		c.word(`"` + name + `"`)
	case 13:
		c.word(`U&"\00` + hex(name[0]) + name[1:] + `"`)
	case 14:
		c.word("pg_catalog")
		c.word(".")
		c.word(name)
	case 15:
		c.word(`"pg_catalog"."` + name + `"`)
	default:
		c.word(name)
	}
}

func hex(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}
