package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pgtideReading runs a command line that is given a text on standard input.
func pgtideReading(t *testing.T, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	s := streams{in: strings.NewReader(in), out: &out, err: &errs}
	code := exitCode(s, run(t.Context(), s, args))
	return result{out.String(), errs.String(), code}
}

func TestClassify(t *testing.T) {
	got := pgtide(t, "classify", "select 1", "-- two\nselect *\n\tfrom t; delete from t", "/* pgtide: node=b */ select pg_advisory_lock(1)")
	want := `VERDICT  REASON            HINT    STATEMENT
read     select            -       select 1
read     select            -       -- two select * from t
write    delete            -       delete from t
session  pg_advisory_lock  node=b  /* pgtide: node=b */ select pg_advisory_lock(1)
`
	if got.code != 0 || got.err != "" || got.out != want {
		t.Errorf("got %+v, want\n%s", got, want)
	}
}

func TestClassifyJSON(t *testing.T) {
	const sql = "select ';' -- a;b\n; \n/* pgtide: primary */\nSELECT\n1 < 2; foo; set a = 1;\ncreate function f() returns int begin atomic select 1; end"
	want := []classified{
		{"select ';' -- a;b", "read", "select", ""},
		{"/* pgtide: primary */\nSELECT\n1 < 2", "read", "select", "primary"},
		{"foo", "unknown", "unknown statement", ""},
		{"set a = 1", "session", "set", ""},
		{"create function f() returns int begin atomic select 1; end", "write", "create", ""},
	}
	file := filepath.Join(t.TempDir(), "queries.sql")
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		in   string
		args []string
		want []classified
	}{
		{"", []string{sql}, want},
		{sql, nil, want},
		{sql, []string{"--file", "-"}, want},
		{"select 1", []string{"-f", file, "-f", "-"}, append(slices.Clone(want), classified{"select 1", "read", "select", ""})},
		{"", []string{"--", "-- nothing"}, []classified{}},
		{" \n;; /* nothing */", nil, []classified{}},
		{"", []string{"-- name: GetUser :one\nselect 1", "--name: x\nselect 2"}, []classified{
			{"-- name: GetUser :one\nselect 1", "read", "select", ""}, {"--name: x\nselect 2", "read", "select", ""},
		}},
		{"select '\x1b[2J", nil, []classified{{"select '\x1b[2J", "unknown", "unterminated string", ""}}},
	} {
		got := pgtideReading(t, test.in, append([]string{"classify", "--json"}, test.args...)...)
		var all []classified
		if err := json.Unmarshal([]byte(got.out), &all); err != nil || got.code != 0 || got.err != "" {
			t.Errorf("classify %q < %q: got %+v, %v", test.args, test.in, got, err)
		}
		if all == nil || !slices.Equal(all, test.want) {
			t.Errorf("classify %q < %q: got %+v, want %+v", test.args, test.in, all, test.want)
		}
	}
}

func TestClassifyMisused(t *testing.T) {
	got := pgtide(t, "classify", "--file", "x.sql", "select 1")
	if got.code != exitUsage || !strings.Contains(got.err, "not both") {
		t.Errorf("got %+v, want a refusal of two sources", got)
	}
	got = pgtide(t, "classify", "--jsno", "select 1")
	if got.code != exitUsage || !strings.Contains(got.err, "did you mean --json") {
		t.Errorf("got %+v, want the option that was meant", got)
	}
	if got = pgtide(t, "classify", "--help"); got.code != 0 || !strings.Contains(got.out, "Examples:") {
		t.Errorf("got %+v, want help", got)
	}
	missing := filepath.Join(t.TempDir(), "missing.sql")
	got = pgtide(t, "classify", "--file", missing)
	if got.code != exitFailure || strings.Count(got.err, missing) != 1 {
		t.Errorf("got %+v, want an error that names the file once", got)
	}
}

// A long or hostile statement takes one line and reaches the terminal escaped.
func TestClassifyTable(t *testing.T) {
	got := pgtideReading(t, "select '\x1b[2J\a', '"+strings.Repeat("é", 500)+"'", "classify")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[1], "é...") || !strings.Contains(lines[1], `'\u001b[2J\u0007'`) {
		t.Errorf("got %q, want one line for the statement", lines)
	}
}
