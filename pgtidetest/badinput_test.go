package pgtidetest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]pgtidetest.Options{
		"DB names node":    {DB: pgtide.Options{Nodes: []pgtide.Node{{Name: "a"}}}},
		"DB has a DSN":     {DB: pgtide.Options{DSN: "postgres://a"}},
		"set Migrate":      {Key: "1"},
		"ProbeInterval":    {DB: pgtide.Options{ProbeInterval: -1}},
		"no_such_setting":  {Settings: map[string]string{"no_such_setting": "1"}},
		"belongs to":       {Settings: map[string]string{"port": "1"}},
		"existing cluster": {DB: pgtide.Options{DSN: "postgres://a"}},
		"connect to":       {DSN: "postgres://nobody@127.0.0.1:1/x?connect_timeout=2"},
	} {
		wantFatal(t, func(tb testing.TB) { pgtidetest.NewWith(tb, o) }, "pgtidetest: ", want)
	}
}

func init() {
	scenarios["new"] = func(t *testing.T) { pgtidetest.New(t) }
	scenarios["fill the disk"] = func(t *testing.T) {
		v := suffer(t, func(tb testing.TB) {
			pgtidetest.NewWith(tb, pgtidetest.Options{Replicas: -1, Migrate: func(ctx context.Context, dsn string) error {
				return run(ctx, dsn, "create table big as select repeat('x', 1000) from generate_series(1, 1000000)")
			}})
		})
		if !v.Failed() {
			t.Error("the disk is not full")
		}
		wantText(t, v.text.String(), "SQLSTATE 53100", "free some room", "TMPDIR")
	}
}

// Each environment that cannot work says what would.
func TestBadEnvironment(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	for _, c := range []struct {
		env  string
		want []string
	}{
		{"PGTIDE_PGBIN=" + empty, []string{"no PostgreSQL server binaries found", empty, "initdb and postgres"}},
		{"PGTIDE_PGBIN=/nowhere", []string{"no PostgreSQL server binaries found", "/nowhere"}},
		{"PGTIDE_PGVERSION=5", []string{"PGTIDE_PGVERSION=5", "install it", "PGTIDE_PGBIN"}},
		{"PGTIDE_PGVERSION=new", []string{"is not a major version such as 15"}},
		{"PGTIDE_TEST_DSN=postgres://nobody@127.0.0.1:1/x?connect_timeout=2", []string{"connect to 127.0.0.1", "refused"}},
		{"PGTIDE_TEST_DSN=::", []string{"PGTIDE_TEST_DSN"}},
		{"PGTIDE_TEST_KEEP=long", []string{"PGTIDE_TEST_KEEP", "10m"}},
		{"PGTIDE_TEST_LINGER=long", []string{"PGTIDE_TEST_LINGER", "10s"}},
		{"PGTIDE_TEST_CLUSTERS=many", []string{"PGTIDE_TEST_CLUSTERS", "such as 4"}},
		{"PGTIDE_TEST_DIR=/proc/self/nothing", []string{"folder for shared test clusters", "PGTIDE_TEST_DIR"}},
		{"PGTIDE_TEST_DIR=" + empty + "/0123456789012345678901234567890123456789012345678901234567890123456789", []string{"too long for a socket", "PGTIDE_TEST_DIR"}},
	} {
		out, err := newProgram(t).run(t, "new", c.env)
		if err == nil {
			t.Errorf("%s: the scenario passed", c.env)
		}
		wantText(t, out, c.want...)
	}
}

// Only root can mount a small disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return
	}
	disk, err := os.MkdirTemp("", "tide")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(disk) })
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=150m,mode=755", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Fatalf("mount a small disk: %v: %s", err, out)
	}
	p := newProgram(t, "TMPDIR="+disk)
	t.Cleanup(func() {
		p.awaitEnd(t)
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	p.mustRun(t, "fill the disk")
	p.awaitEnd(t)

	// One on which not even a cluster fits.
	if err := os.WriteFile(disk+"/filler", make([]byte, 120<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := p.run(t, "new")
	if err == nil {
		t.Error("a cluster fits on a full disk")
	}
	wantText(t, out, "disk is full")
}
