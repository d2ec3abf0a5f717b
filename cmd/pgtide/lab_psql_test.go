package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPsqlEnv(t *testing.T) {
	env := []string{"HOME=/home/me", "PGHOST=elsewhere", "PGHOSTADDR=10.0.0.1", "PGSERVICE=production", "PGOPTIONS=-c x=y", "PGPASSWORD=old"}
	got, err := psqlEnv(env, "postgres://app:s%40cret@127.0.0.1:20001/shop?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{"HOME=/home/me", "PGCONNECT_TIMEOUT=10", "PGDATABASE=shop", "PGHOST=127.0.0.1", "PGOPTIONS=-c x=y",
		"PGPASSWORD=s@cret", "PGPORT=20001", "PGSSLMODE=disable", "PGUSER=app"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got, err = psqlEnv([]string{"PGPASSWORD=old"}, "postgres://app@127.0.0.1:20001/shop")
	if err != nil || slices.ContainsFunc(got, func(entry string) bool { return strings.HasPrefix(entry, "PGPASSWORD=") }) {
		t.Errorf("got %q, %v, want no password where the URL has none", got, err)
	}
}

func TestFindPsql(t *testing.T) {
	server, path := t.TempDir(), t.TempDir()
	for _, dir := range []string{server, path} {
		for _, name := range []string{"psql", "psql.exe"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", path)
	for _, test := range []struct{ bin, want string }{
		{server, server},
		{t.TempDir(), path},
		{"", path},
	} {
		got, err := findPsql(test.bin)
		if err != nil || filepath.Dir(got) != test.want {
			t.Errorf("server's folder %q: got %q, %v, want one in %s", test.bin, got, err, test.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if got, err := findPsql(""); err == nil {
		t.Errorf("without a psql: got %q, want an error", got)
	}
}
