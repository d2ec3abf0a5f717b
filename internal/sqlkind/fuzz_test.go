package sqlkind

import (
	"bytes"
	"strings"
	"testing"
)

// seeds gives a fuzz target every statement of the tables.
func seeds(f *testing.F) {
	for _, c := range append(allCases(f), readCases(f, "testdata/hints.txt")...) {
		f.Add(c.sql)
	}
	for _, sql := range []string{"", "select '\x00'", "select \xff", "select 1 -- a\r;", "select 'a\\", "$", "(((", "U&\""} {
		f.Add(sql)
	}
}

// FuzzLex takes any text apart: no panic, and each token ends beyond the one
// before, so that the work is linear.
func FuzzLex(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, sql string) {
		l := lexer{src: sql}
		for at := -1; ; at = l.pos {
			tok := l.next()
			if tok.kind == end && l.pos != len(sql) {
				t.Fatalf("%q: the end at %d of %d", sql, l.pos, len(sql))
			}
			if tok.kind == broken && l.fault == "" {
				t.Fatalf("%q: broken for no reason", sql)
			}
			if tok.kind == end || tok.kind == broken {
				return
			}
			if l.pos <= at || l.pos > len(sql) {
				t.Fatalf("%q: token from %d to %d", sql, at, l.pos)
			}
			if tok.name() && len(tok.text) == 0 && sql[l.pos-1] != '"' {
				t.Fatalf("%q: a name without a text at %d", sql, l.pos)
			}
		}
	})
}

// FuzzClassify checks what must hold for any text.
func FuzzClassify(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, sql string) {
		v := Classify(sql)
		if v.Reason == "" || len(v.Reason) > longestName {
			t.Errorf("Classify(%q) has the reason %q", sql, v.Reason)
		}
		// A write or a lock after the end of any statement is never missed. The
		// line break ends a comment.
		for _, tail := range []string{"\n; delete from t", "\n; select pg_advisory_lock(1)", "\n; set a = 1"} {
			if got := Classify(sql + tail); got.Kind == Read {
				t.Errorf("Classify(%q) is a read", sql+tail)
			}
		}
		// Nor is one in front.
		if got := Classify("select pg_promote(); " + sql); got.Kind == Read {
			t.Errorf("a promotion before %q is a read", sql)
		}
		// What is before a statement does not change it, and its hint only if it is
		// more than comments.
		plain := classify(sql)
		for _, head := range []string{"\n", "/* a /* ' */ \" */", "-- '$$\n", ";", "/**/;--\r"} {
			want := plain
			if !strings.Contains(head, ";") {
				want = v
			}
			if got := Classify(head + sql); got != want {
				t.Errorf("Classify(%q) = %v, want %v as without %q", head+sql, got, want, head)
			}
		}
		if got := Classify("explain analyze " + sql); plain.Kind != Read && plain.Reason != "empty text" && got.Kind == Read && !explains(sql) {
			t.Errorf("Classify(%q) = %v, but it is a read after EXPLAIN ANALYZE", sql, plain)
		}
		// Nor does case, but for the tags of dollar quotes.
		if upper := upperASCII(sql); !bytes.ContainsRune([]byte(sql), '$') {
			if got := classify(upper); got != plain {
				t.Errorf("Classify(%q) = %v, want %v as in the case of %q", upper, got, plain, sql)
			}
		}
		// What it calls, Calls finds too.
		if v.Calls && !Calls(sql) {
			t.Errorf("%q calls something, but not to Calls", sql)
		}
		// What leaves something after a statement is never missed.
		if got := Classify(sql + "\n; set a = 1"); !got.Leaves {
			t.Errorf("%q with a SET behind it leaves nothing", sql)
		}
		// The cache says the same, twice, and what it learned after that.
		c := NewCache(2)
		if first, again := c.Classify(sql), c.Classify(sql); first != v || again != v {
			t.Errorf("a cache says %v and %v of %q, want %v", first, again, sql, v)
		}
		c.Learn(sql, Write, "learned")
		if got, want := c.Classify(sql), (Verdict{Kind: Write, Reason: "learned", Hint: v.Hint, Leaves: v.Leaves || Leaves(sql)}); got != want {
			t.Errorf("a cache says %v of %q, want %v", got, sql, want)
		}
	})
}

// classify is Classify without hints.
func classify(sql string) Verdict {
	f, calls := judge(sql)
	return Verdict{Kind: f.Kind, Reason: f.Reason, Calls: calls && f.Kind == Read, Leaves: f.Kind != Read && Leaves(sql)}
}

// explains reports whether sql begins with a word that means something else
// after EXPLAIN ANALYZE.
func explains(sql string) bool {
	l := lexer{src: sql}
	tok := l.next()
	for tok.is('(') {
		tok = l.next()
	}
	switch keyword(tok.text) {
	case "verbose", "analyze", "analyse":
		return true
	}
	return false
}

func upperASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
