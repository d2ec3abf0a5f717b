package clusters

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFolder(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	got, err := Folder("my-lab.2")
	if want := filepath.Join(state, "pgtide", "clusters", "my-lab.2"); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "-a", ".a", "a b", strings.Repeat("a", 64)} {
		if got, err := Folder(name); err == nil {
			t.Errorf("name %q: got %q, want an error", name, got)
		}
	}
}

// A relative path means nothing to the next terminal.
func TestParentIgnoresRelativeState(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "relative")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	want := filepath.Join(home, ".local", "state", "pgtide", "clusters")
	if os.Geteuid() == 0 {
		want = rootParent
	}
	if got, err := Parent(); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestNames(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if got, err := Names(); err != nil || len(got) != 0 {
		t.Errorf("without any folder: got %q, %v, want none", got, err)
	}
	for _, name := range []string{"b", "a"} {
		dir, err := Folder(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, stateFile))
	}
	foreign, _ := Folder("foreign")
	write(t, filepath.Join(foreign, "file"))
	if got, err := Names(); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q, %v, want a and b", got, err)
	}
}

// write makes a file and the folders above it.
func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}
