package sqlkind

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
)

func TestSplit(t *testing.T) {
	got := Split("\n /* pgtide: primary */ select 1 ; -- two\nselect\n2\t;;")
	want := []string{"/* pgtide: primary */ select 1", "-- two\nselect\n2"}
	if !slices.Equal(got, want) {
		t.Errorf("Split = %q, want %q", got, want)
	}
	for _, c := range readCases(t, "testdata/split.txt") {
		if got := Split(c.sql); fmt.Sprint(len(got)) != c.want {
			t.Errorf("%s: Split(%q) = %q, want %s", c.where, c.sql, got, c.want)
		}
	}
}

// checkSplit compares a text with its statements one by one.
func checkSplit(t *testing.T, sql string) {
	t.Helper()
	whole, rest := classify(sql), sql
	all := Split(sql)
	reads := 0
	for _, statement := range all {
		_, after, ok := strings.Cut(rest, statement)
		if !ok || statement == "" {
			t.Fatalf("Split(%q) has %q, which does not follow", sql, statement)
		}
		rest = after
		v := classify(statement)
		if v.Kind == Read {
			reads++
		}
		if v.Kind == Write && whole.Kind != Write && whole.Kind != Unknown {
			t.Errorf("%q is %v, but its statement %q is %v", sql, whole, statement, v)
		}
	}
	if whole.Kind == Read && (reads < len(all) || reads == 0) {
		t.Errorf("%q is a read, but only %d of its statements %q are", sql, reads, all)
	}
	// A comment after the last statement belongs to none.
	bad := whole.Reason == "NUL byte" || whole.Reason == "invalid UTF-8"
	if whole.Kind != Read && reads == len(all) && reads > 0 && !bad {
		t.Errorf("%q is %v, but its statements %q are reads", sql, whole, all)
	}
}

func TestSplitKeepsVerdicts(t *testing.T) {
	for _, c := range allCases(t) {
		checkSplit(t, c.sql)
	}
	for _, sql := range sqlcase.Random(2, 3000) {
		checkSplit(t, sql)
	}
}

func FuzzSplit(f *testing.F) {
	seeds(f)
	for _, c := range readCases(f, "testdata/split.txt") {
		f.Add(c.sql)
	}
	f.Fuzz(func(t *testing.T, sql string) { checkSplit(t, sql) })
}
