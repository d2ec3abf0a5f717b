package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/pgtidetest"
)

func TestMain(m *testing.M) {
	pgtidetest.Main(m, pgtidetest.Options{Schema: schema})
}

// naive opens the board on two pools, one of the primary and one of a replica.
func naive(t testing.TB, tide *pgtidetest.Tide) http.Handler {
	pool := func(node string) *pgxpool.Pool {
		p, err := pgxpool.New(t.Context(), tide.DSN(node))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	return newBoard(pool(tide.Primary()), pool(tide.Replicas()[0]))
}

// onPgtide opens it as main does.
func onPgtide(t testing.TB, tide *pgtidetest.Tide) http.Handler {
	handler, err := fixed(tide.DB, []byte("a secret of at least 32 bytes, for tests"))
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func TestBoard(t *testing.T) {
	pgtidetest.Handler(t, onPgtide,
		httptest.NewRequest("GET", "/messages", nil),
		httptest.NewRequest("POST", "/messages?text=hello", nil), // and the page it leads to
	)
}

// The same test of the board with the bug finds it, on the very line.
func TestFindsTheBug(t *testing.T) {
	report := pgtidetest.Finder{}.FindInHandler(t, naive,
		httptest.NewRequest("GET", "/messages", nil),
		httptest.NewRequest("POST", "/messages?text=hello", nil),
	)
	if len(report.Findings) != 1 {
		t.Fatalf("%d findings, want 1: %v", len(report.Findings), report.Findings)
	}
	found := report.Findings[0]
	if line := lineOf(t, "board.go", "b.reads.Query"); filepath.Base(found.File) != "board.go" || found.Line != line {
		t.Errorf("found at %s:%d, want board.go:%d", found.File, found.Line, line)
	}
	// What the guide shows is what is printed.
	guide, err := os.ReadFile("../../docs/TESTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(found.String()) {
		if !strings.Contains(string(guide), strings.TrimSpace(line)) {
			t.Errorf("docs/TESTING.md does not show %q", line)
		}
	}
}

// lineOf returns the number of the line that has the text.
func lineOf(t *testing.T, file, text string) int {
	t.Helper()
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(all), text)
	if !found {
		t.Fatalf("%s does not have %q", file, text)
	}
	return strings.Count(before, "\n") + 1
}

func TestProgram(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^reads from the replica: whoever has posted sees ""\nreads through pgtide: whoever has posted sees ".*reads through pgtide\\n"\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("it prints\n%swant %s", &out, want)
	}
}
