package sqlkind

import (
	"strings"
	"testing"
	"time"
)

func TestHints(t *testing.T) {
	var c Cache
	for _, h := range readCases(t, "testdata/hints.txt") {
		v := Classify(h.sql)
		got := v.String()
		if v.Hint != (Hint{}) {
			got += " -> " + v.Hint.String()
		}
		if got != h.want {
			t.Errorf("%s: Classify(%q) = %q, want %q", h.where, h.sql, got, h.want)
		}
		if cached := c.Classify(h.sql); cached != v || c.Classify(h.sql) != v {
			t.Errorf("%s: a cache says %v of %q, want %v", h.where, cached, h.sql, v)
		}
		c.Learn(h.sql, Write, "refused")
		if got, want := c.Classify(h.sql), (Verdict{Kind: Write, Reason: "refused", Hint: v.Hint, Leaves: v.Leaves}); got != want {
			t.Errorf("%s: a cache says %v of %q, want %v with the hint kept", h.where, got, h.sql, want)
		}
	}
}

func TestHintFields(t *testing.T) {
	for sql, want := range map[string]Hint{
		"/* pgtide: replica, max_staleness=1.5s */ select 1": {Target: Replica, MaxStaleness: 1500 * time.Millisecond},
		"/* pgtide: node=b, session */ select 1":             {Target: NamedNode, Node: "b", Session: true},
		"/* pgtide: primary */ select 1":                     {Target: Primary},
		"/* pgtide: oops */ select 1":                        {Target: Primary},
		"select 1":                                           {},
	} {
		if got := Classify(sql).Hint; got != want {
			t.Errorf("the hint of %q is %+v, want %+v", sql, got, want)
		}
	}
}

// TestHugeHint has a hint that is as long as a text can be.
func TestHugeHint(t *testing.T) {
	for _, body := range []string{
		strings.Repeat("replica, ", 1<<20), strings.Repeat("session ", 1<<20), "node=" + strings.Repeat("n", 10<<20),
		strings.Repeat(" ", 10<<20), strings.Repeat("/* ", 1<<20), "max_staleness=" + strings.Repeat("1h", 1<<20),
	} {
		v := Classify("/* pgtide: " + body + " */ select 1")
		if v.Kind == Write || v.Reason == "" {
			t.Errorf("a hint of %d bytes (%.20q...) makes %v", len(body), body, v)
		}
	}
}

// FuzzHint tries any text as a hint: it never makes a read of what is none, and
// what it is printed as is the same hint.
func FuzzHint(f *testing.F) {
	for _, h := range readCases(f, "testdata/hints.txt") {
		body, _, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(h.sql), "/*"), "*/")
		f.Add(strings.TrimPrefix(strings.TrimSpace(body), "pgtide:"))
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, statement := range []string{"select 1", "delete from t", "set a = 1"} {
			plain, hinted := Classify(statement), Classify("/* pgtide: "+body+" */ "+statement)
			if plain.Kind != Read && hinted.Kind == Read && !strings.Contains(body, "*/") {
				t.Errorf("%q with the hint %q is a read", statement, body)
			}
			if hint := hinted.Hint; hint != (Hint{}) {
				if again := Classify("/* pgtide: " + hint.String() + " */ select 1").Hint; again != hint {
					t.Errorf("the hint %q is %+v, printed and read again %+v", body, hint, again)
				}
			} else if !strings.Contains(body, "*/") && !strings.Contains(body, "/*") {
				t.Errorf("%q is no hint", body)
			}
		}
	})
}
