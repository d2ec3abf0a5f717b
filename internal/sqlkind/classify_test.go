package sqlkind

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
)

// statementCase is one entry of a table in testdata.
type statementCase struct {
	where, sql, want string
}

func readCases(t testing.TB, path string) []statementCase {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := sqlcase.Read(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var cases []statementCase
	for _, c := range table {
		cases = append(cases, statementCase{fmt.Sprintf("%s:%d", filepath.Base(path), c.Line), c.SQL, c.Want})
	}
	return cases
}

// tables are the files of statements.
var tables = []string{"peers", "queries", "functions", "lexer", "statements"}

func allCases(t testing.TB) []statementCase {
	var all []statementCase
	for _, name := range tables {
		all = append(all, readCases(t, filepath.Join("testdata", name+".txt"))...)
	}
	return all
}

func TestClassify(t *testing.T) {
	for _, c := range allCases(t) {
		if got := Classify(c.sql).String(); got != c.want {
			t.Errorf("%s: Classify(%q) = %q, want %q", c.where, c.sql, got, c.want)
		}
	}
}

// TestPeersLearn counts the statements of peers.txt: 21 must not be read from a
// replica and 11 may. One of the 21 calls a function of the user's own, which
// only the refusal of a replica tells.
func TestPeersLearn(t *testing.T) {
	const writesInside = "SELECT my_writing_function()"
	cases := readCases(t, "testdata/peers.txt")
	if len(cases) != 32 {
		t.Fatalf("%d statements, want 32", len(cases))
	}
	var c Cache
	if got := c.Classify(writesInside); got.Kind != Read {
		t.Errorf("Classify(%q) = %v before it was learned, want a read", writesInside, got)
	}
	c.Learn(writesInside, Write, "refused by a replica")
	for i, s := range cases {
		if got, want := c.Classify(s.sql).Kind == Read, i >= 21; got != want {
			t.Errorf("%s: Classify(%q) is a read: %v, want %v", s.where, s.sql, got, want)
		}
	}
}

// TestBytes has what a text file cannot show well.
func TestBytes(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"", "unknown: empty text"},
		{" \t\r\n\f\v", "unknown: empty text"},
		{"\tselect\f1\v", "read: select"},
		{"select 1 -- a\r; delete from t", "write: delete"},
		{"select 1 -- a\x00", "unknown: NUL byte"},
		{"select 'a\x00b'", "unknown: NUL byte"},
		{"select \"a\x00b\"", "unknown: NUL byte"},
		{"select $$\x00$$", "unknown: NUL byte"},
		{"select \x001", "unknown: byte outside the language"},
		{"sel\x00ect 1", "unknown: byte outside the language"},
		{"select '\xff'", "unknown: invalid UTF-8"},
		{"select \xc3", "unknown: invalid UTF-8"},
		{"select 1 /* \x80 */", "unknown: invalid UTF-8"},
		{"delete from t where a = '\xff\x00", "write: delete"},
		{"\ufeffselect 1", "unknown: unknown statement"},
		{"select\u00a0pg_sleep(1)", "unknown: unknown statement"},
		{"select pg_" + strings.Repeat("a", 100) + "()", "unknown: pg_" + strings.Repeat("a", 60)},
		{"select \"pg_" + strings.Repeat("a", 59) + "é\"()", "unknown: pg_" + strings.Repeat("a", 59)},
	} {
		if got := Classify(c.sql).String(); got != c.want {
			t.Errorf("Classify(%q) = %q, want %q", c.sql, got, c.want)
		}
	}
}

// TestHuge gives each part of the lexer and the parser half a megabyte of what
// could make it slow. It takes milliseconds, seconds under the race detector;
// quadratic work on any would take a minute.
func TestHuge(t *testing.T) { huge(t, 512<<10) }

// TestTenMegabytes does it once with the longest texts that anybody sends.
func TestTenMegabytes(t *testing.T) {
	for _, sql := range []string{
		"insert into t values (1)" + strings.Repeat(", (1)", 2<<20),
		"select * from t where id in (1" + strings.Repeat(", 1", 3<<20) + ")",
		"select '" + strings.Repeat("x", 10<<20),
		strings.Repeat("(", 10<<20),
		strings.Repeat("\x00", 10<<20),
	} {
		var c Cache
		want := Classify(sql)
		if got := c.Classify(sql); got != want || (want.Kind == Read) != strings.HasSuffix(sql, "1)") && sql[0] != 'i' {
			t.Errorf("%d bytes (%.20q...) are %v, cached %v", len(sql), sql, want, got)
		}
	}
}

func huge(t *testing.T, size int) {
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for _, c := range []struct{ name, sql, want string }{
		{"parentheses", fill("("), "unknown: unbalanced parenthesis"},
		{"balanced", fill("(")[:size/2] + "select 1" + fill(")")[:size/2], "read: select"},
		{"comments", fill("/*"), "unknown: unterminated comment"},
		{"line comments", fill("--\n"), "unknown: empty text"},
		{"comment stars", "/" + fill("*"), "unknown: unterminated comment"},
		{"strings", "select " + fill("'a' "), "read: select"},
		{"quotes", "select '" + fill("''") + "'", "read: select"},
		{"backslashes", "select e'" + fill(`\`) + "'", "read: select"},
		{"escaped quotes", "select e'" + fill(`\'`) + "'", "read: select"},
		{"plain backslashes", "select '" + fill(`\\''`) + "'", "read: select"},
		{"dollar tags", "select $a$" + fill("$a $b") + "$a$", "read: select"},
		{"long tag", "select $" + fill("a") + "$ " + fill("a") + "$", "unknown: unterminated string"},
		{"tags in tags", "select " + fill("$a$b$ $a$ "), "read: select"},
		{"parameters", "select " + fill("$1"), "read: select"},
		{"identifiers", "select " + fill(`"a""b".`), "read: select"},
		{"one name", "select " + fill("a"), "read: select"},
		{"one function", "select pg_" + fill("a") + "()", "unknown: pg_" + strings.Repeat("a", 60)},
		{"one number", "select " + fill("1"), "read: select"},
		{"dots", "select " + fill("1."), "read: select"},
		{"operators", "select " + fill("- + / *"), "read: select"},
		{"statements", fill("select 1;"), "read: select"},
		{"semicolons", fill(";"), "unknown: empty text"},
		{"explain", fill("explain analyze "), "unknown: explain"},
		{"explain options", "explain (" + fill("analyze,") + ") select 1", "read: select"},
		{"with", fill("with a as (select 1) "), "read: with"},
		{"copy", fill("copy t to "), "unknown: copy to file"},
		{"values", "select * from t where id in (1" + fill(",1") + ")", "read: select"},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			if got := Classify(c.sql).String(); got != c.want {
				t.Errorf("Classify = %q, want %q", got, c.want)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%d bytes took %v", len(c.sql), took)
			}
		})
	}
}

func TestStrings(t *testing.T) {
	for v, want := range map[Verdict]string{
		{}:                                    "unknown",
		{Kind: Read}:                          "read",
		{Kind: Session, Reason: "set"}:        "session: set",
		{Kind: Write, Reason: "refused"}:      "write: refused",
		{Kind: 9, Reason: "out of the range"}: "kind(9): out of the range",
	} {
		if got := v.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}
