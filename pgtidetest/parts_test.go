package pgtidetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestRedirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dsn, address, database, want string }{
		{"postgres://app:pw@a:1/x?sslmode=disable", "b:2", "y", "postgres://app:pw@b:2/y?sslmode=disable"},
		{"postgres://app@a,b,c/x", "b:2", "", "postgres://app@b:2/x"},
		{"postgres://app@a/x", "", "y z", "postgres://app@a/y%20z"},
		{"postgres://app@a", "[::1]:5", "y", "postgres://app@[::1]:5/y"},
		{"host=a,b user=app", "b:2", "it's", `host=a,b user=app host='b' port=2 dbname='it\'s'`},
	} {
		if got, err := redirect(c.dsn, c.address, c.database); err != nil || got != c.want {
			t.Errorf("redirect(%q, %q, %q) = %q, %v; want %q", c.dsn, c.address, c.database, got, err, c.want)
		}
	}
}

func TestSplitDSN(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://app@a,b:5433/x?sslmode=disable": "a postgres://app@a:5432/x?sslmode=disable, b postgres://app@b:5433/x?sslmode=disable",
		"pgtide://app@h:1,h:2/x":                    "h:1 postgres://app@h:1/x, h:2 postgres://app@h:2/x",
	} {
		nodes, err := splitDSN(dsn)
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name+" "+n.DSN)
		}
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("splitDSN(%q) = %v, %v; want %s", dsn, got, err, want)
		}
	}
}

func TestWithoutPassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"postgres://app:secret@a:1/x", "host=a port=1 user=app password=secret dbname=x"} {
		got := withoutPassword(dsn)
		if strings.Contains(got, "secret") || !strings.Contains(got, "app") || !strings.Contains(got, "x") {
			t.Errorf("withoutPassword(%q) = %q", dsn, got)
		}
	}
}

func TestTemplateName(t *testing.T) {
	t.Parallel()
	one := func(context.Context, string) error { return nil }
	two := func(context.Context, string) error { return nil }
	files := func(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }
	name := func(o Options) string {
		t.Helper()
		n, err := o.templateName()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := name(Options{}); got != "" {
		t.Errorf("nothing to make has the template %q", got)
	}
	same := Options{Schema: "s", Migrate: one, Key: "k", Files: files("a", "b")}
	if first, second := name(same), name(same); first != second {
		t.Error("the same has two names")
	}
	seen := map[string]int{}
	for i, o := range []Options{
		same,
		{Schema: "s"},
		{Schema: "t"},
		{Migrate: one},
		{Migrate: one, Key: "k"},
		{Migrate: two, Key: "k"},
		{Migrate: one, Key: "l"},
		{Migrate: one, Files: files("a", "b")},
		{Migrate: one, Files: files("b", "a")},
		{Migrate: one, Files: files("ab", "")},
	} {
		n := name(o)
		if before, ok := seen[n]; ok {
			t.Errorf("cases %d and %d have the same name", before, i)
		}
		seen[n] = i
		if len(n)+len("_unfinished") > 63 {
			t.Errorf("the name %s is too long for the server", n)
		}
	}
}

// It sets the environment, so it does not run beside others.
func TestBinDir(t *testing.T) {
	cache := t.TempDir()
	dir := filepath.Join(cache, "postgres", "99", "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postgres"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGTIDE_CACHE", cache)
	t.Setenv("PGTIDE_PGBIN", "")
	t.Setenv(EnvVersion, "")
	if got, err := binDir(); got != "" || err != nil {
		t.Errorf("without a wish: %q, %v; want the lab to look", got, err)
	}
	t.Setenv(EnvVersion, "99")
	if got, err := binDir(); got != dir || err != nil {
		t.Errorf("version 99: %q, %v; want %s", got, err, dir)
	}
	t.Setenv("PGTIDE_PGBIN", "/here")
	if got, err := binDir(); got != "/here" || err != nil {
		t.Errorf("a folder and a version: %q, %v; want the folder", got, err)
	}
}

func TestWrote(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]bool{
		"": false, "SELECT 1": false, "BEGIN": false, "SELECT 1; SHOW": false,
		"INSERT 0 10": true, "UPDATE 0": true, "SELECT 1; DELETE 3": true, "CREATE TABLE": true,
	} {
		if got := wrote(tag); got != want {
			t.Errorf("wrote(%q) = %v, want %v", tag, got, want)
		}
	}
}
