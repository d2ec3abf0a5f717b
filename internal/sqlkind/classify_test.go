package sqlkind

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// statementCase is one entry of a table in testdata.
type statementCase struct {
	where, sql, want string
}

// readCases reads a table: verdict, bar, statement. A line without a verdict
// goes on with the statement above.
func readCases(t testing.TB, path string) []statementCase {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []statementCase
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		want, sql, ok := strings.Cut(line, "| ")
		if want = strings.TrimSpace(want); !ok {
			t.Fatalf("%s:%d: no bar in %q", path, n, line)
		}
		if want == "" {
			cases[len(cases)-1].sql += "\n" + sql
			continue
		}
		cases = append(cases, statementCase{fmt.Sprintf("%s:%d", filepath.Base(path), n), sql, want})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
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

// TestCatalog goes through the functions of pg_catalog that are volatile or whose
// names could matter, as real standbys list them.
func TestCatalog(t *testing.T) {
	f, err := os.Open("testdata/catalog.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := lines.Text(); line == "" || line[0] == '#' {
			continue
		}
		row := strings.Fields(lines.Text())
		if len(row) != 3 {
			t.Fatalf("%q: want kind, volatility, name", lines.Text())
		}
		want, name := row[0], row[2]
		seen[name] = true
		for _, sql := range []string{
			"select " + name + "(1)",
			"select * from pg_catalog." + strings.ToUpper(name) + " ()",
			`values ("` + name + `"())`,
		} {
			if got := Classify(sql).Kind.String(); got != want {
				t.Errorf("Classify(%q) is a %s, want %s", sql, got, want)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(harmless) {
		if !seen[name] {
			t.Errorf("%s is harmless but in no catalog", name)
		}
	}
}

// TestHuge gives each part of the lexer and the parser half a megabyte of what
// could make it slow. It takes milliseconds, seconds under the race detector;
// quadratic work on any would take a minute.
func TestHuge(t *testing.T) {
	const size = 512 << 10
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
		{}:                            "unknown",
		{Kind: Read}:                  "read",
		{Session, "set"}:              "session: set",
		{Write, "refused"}:            "write: refused",
		{Kind(9), "out of the range"}: "kind(9): out of the range",
	} {
		if got := v.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}
