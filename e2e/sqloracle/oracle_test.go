//go:build cgo

package sqloracle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
)

// verdict is how a text fared against the grammar.
type verdict int

const (
	notSQL verdict = iota
	agreed
	cautious // the grammar knows nothing against a read, but it is none
)

// compare reports where sqlkind lets pass what the grammar does not, or takes a
// text apart at other places.
func compare(t testing.TB, sql string) verdict {
	t.Helper()
	if strings.IndexByte(sql, 0) >= 0 || !utf8.ValidString(sql) {
		return notSQL // the parser, in C, would see another text
	}
	want, err := parse(sql)
	if err != nil {
		return notSQL
	}
	got := sqlkind.Classify(sql)
	unsafe := want.unsafe
	for _, name := range want.called {
		if v := sqlkind.Classify("select " + name + "()"); v.Kind != sqlkind.Read && unsafe == "" {
			unsafe = "a call of " + name
		}
	}
	for _, name := range want.read {
		if v := sqlkind.Classify("select * from " + name); v.Kind != sqlkind.Read && unsafe == "" {
			unsafe = "the relation " + name
		}
	}
	if want.statements == 0 {
		unsafe = "no statement"
	}
	if got.Kind == sqlkind.Read && unsafe != "" {
		t.Errorf("%q is a read, but the grammar finds %s", sql, unsafe)
	}
	// Where a string ends depends on a setting of the server, sqlkind stops.
	if all := sqlkind.Split(sql); len(all) != want.statements && got.Reason != "backslash before a quote" {
		t.Errorf("Split(%q) = %q, %d statements, the grammar finds %d", sql, all, len(all), want.statements)
	}
	if got.Kind != sqlkind.Read && unsafe == "" {
		return cautious
	}
	return agreed
}

// tables returns the statements that people wrote for sqlkind.
func tables(t testing.TB) []string {
	t.Helper()
	const folder = "../../internal/sqlkind/testdata"
	paths, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(paths) < 7 {
		t.Fatalf("%d tables in %s: %v", len(paths), folder, err)
	}
	var all []string
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := sqlcase.Read(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, c := range cases {
			all = append(all, c.SQL)
		}
	}
	return all
}

func TestTables(t *testing.T) {
	all := tables(t)
	count := map[verdict]int{}
	for _, sql := range all {
		count[compare(t, sql)]++
	}
	t.Logf("%d statements, %d are none to the grammar, %d may be reads and are not taken for it",
		len(all), count[notSQL], count[cautious])
	if count[agreed] < len(all)/2 {
		t.Errorf("agreed on %d of %d statements: the others show nothing", count[agreed], len(all))
	}
}

func TestComposed(t *testing.T) {
	const statements = 20000
	count := map[verdict]int{}
	for _, sql := range sqlcase.Random(3, statements) {
		count[compare(t, sql)]++
	}
	t.Logf("%d statements, %d are none to the grammar, %d may be reads and are not taken for it",
		statements, count[notSQL], count[cautious])
	// Caution is for what hardly anybody writes.
	if count[cautious] > statements/100 {
		t.Errorf("%d of %d statements may be reads and are not taken for it, want 1 in 100 at most", count[cautious], statements)
	}
	if count[agreed] < statements*2/3 {
		t.Errorf("agreed on %d of %d statements: the others show nothing", count[agreed], statements)
	}
}

// TestBites has what must be found, so that a silent oracle is noticed.
func TestBites(t *testing.T) {
	for sql, want := range map[string]opinion{
		"select 1; table t":                                      {statements: 2},
		"select * from t for update":                             {statements: 1, unsafe: "*pg_query.LockingClause"},
		"select (select 1 from (select * from t for share) x)":   {statements: 1, unsafe: "*pg_query.LockingClause"},
		"with a as (with b as (delete from t) select 1) table a": {statements: 1, unsafe: "*pg_query.DeleteStmt"},
		"select 1 into x":                                        {statements: 1, unsafe: "*pg_query.IntoClause"},
		"copy (update t set a = 1 returning 1) to stdout":        {statements: 1, unsafe: "*pg_query.Node_UpdateStmt"},
		"copy t to '/f'":                                         {statements: 1, unsafe: "copy to a file or program"},
		"explain (analyze off, analyze) delete from t":           {statements: 1, unsafe: "*pg_query.Node_DeleteStmt"},
		"explain (analyze, analyze 0) delete from t":             {statements: 1},
		"set a = 1; select 1; delete from t":                     {statements: 3, unsafe: "*pg_query.Node_VariableSetStmt"},
	} {
		got, err := parse(sql)
		if err != nil || got.statements != want.statements || got.unsafe != want.unsafe {
			t.Errorf("parse(%q) = %d statements, unsafe %q, %v; want %d and %q", sql, got.statements, got.unsafe, err, want.statements, want.unsafe)
		}
	}
	got, err := parse(`select PG_Sleep(1), U&"\0061"() from app.T, "T" where exists (select 1 from lateral f(g(1)) x)`)
	if err != nil {
		t.Fatal(err)
	}
	if names := strings.Join(got.called, " "); !strings.Contains(names, `"pg_sleep"`) || !strings.Contains(names, `"a"`) ||
		!strings.Contains(names, `"f"`) || !strings.Contains(names, `"g"`) {
		t.Errorf("called = %s, want all four", names)
	}
	if names := strings.Join(got.read, " "); names != `"app"."t" "T"` && names != `"T" "app"."t"` {
		t.Errorf("read = %s, want both relations", names)
	}
}

func FuzzText(f *testing.F) {
	for _, sql := range append(tables(f), sqlcase.Random(4, 200)...) {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) <= 4096 { // beyond, there is only more of the same
			compare(t, sql)
		}
	})
}

func FuzzComposed(f *testing.F) {
	for i := range byte(64) {
		f.Add([]byte{i, 7 * i, 11 * i, 13 * i, 17 * i, 19 * i, 23 * i, 29 * i})
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) <= 512 {
			compare(t, sqlcase.Compose(choices))
		}
	})
}
