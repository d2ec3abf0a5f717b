package sqlcase

import (
	"slices"
	"strings"
	"testing"
)

// TestGrammar checks that each rule a form names exists, and that the first forms
// come to an end: Compose stops when there are no more choices.
func TestGrammar(t *testing.T) {
	for rule, forms := range grammar {
		for _, form := range forms {
			for _, word := range strings.Fields(form) {
				if name := strings.Trim(word, "{!}"); word[0] == '{' && len(word) > 2 && len(grammar[name]) == 0 {
					t.Errorf("%s: %q names the rule %q, which does not exist", rule, form, name)
				}
			}
		}
		seen := []string{rule}
		for next := rule; ; {
			first := strings.Fields(grammar[next][0])
			at := slices.IndexFunc(first, func(word string) bool { return word[0] == '{' && len(word) > 2 })
			if at < 0 {
				break
			}
			if next = strings.Trim(first[at], "{!}"); slices.Contains(seen, next) {
				t.Fatalf("the first forms of %s lead in a circle by %s", rule, next)
			}
			seen = append(seen, next)
		}
	}
}

func TestCompose(t *testing.T) {
	if got, want := Compose(nil), "select 1"; got != want {
		t.Errorf("Compose(nil) = %q, want %q", got, want)
	}
	first := Random(1, 2000)
	if !slices.Equal(first, Random(1, 2000)) {
		t.Error("two lots of the same seed differ")
	}
	distinct := map[string]bool{}
	for _, sql := range first {
		distinct[sql] = true
		if len(sql) > 8000 {
			t.Errorf("%d bytes: %q...", len(sql), sql[:100])
		}
	}
	if len(distinct) < 1800 {
		t.Errorf("%d of 2000 statements are distinct, want nearly all", len(distinct))
	}
}

func TestRead(t *testing.T) {
	got, err := Read(strings.NewReader("# a comment\n\nread: select | select\n   | 1\nwrite: delete| delete from t\n"))
	want := []Case{{3, "read: select", "select\n1"}, {5, "write: delete", "delete from t"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Read = %v, %v, want %v", got, err, want)
	}
	for _, broken := range []string{"read select 1", "| select 1"} {
		if got, err := Read(strings.NewReader(broken)); err == nil {
			t.Errorf("Read(%q) = %v, want an error", broken, got)
		}
	}
}
