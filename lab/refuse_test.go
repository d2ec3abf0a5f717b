package lab_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/lab"
)

// listing is every path below dir, to see that nothing came or went.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		b.WriteString(path + "\n")
		return err
	}))
	return b.String()
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		o    lab.Options
		want string
	}{
		{lab.Options{Replicas: -1}, "-1 replicas"},
		{lab.Options{Auth: "md5"}, `"md5"`},
		{lab.Options{AppRole: "postgres"}, `role "postgres"`},
		{lab.Options{AppRole: "pg_monitor"}, `role "pg_monitor"`},
		{lab.Options{Database: "template1"}, `database "template1"`},
		{lab.Options{Database: "a\nb"}, "one line"},
		{lab.Options{Settings: map[string]string{"Port": "5432"}}, "setting Port"},
		{lab.Options{Settings: map[string]string{"x = 1\ny": "1"}}, "not the name"},
		{lab.Options{Settings: map[string]string{"work_mem": "1\nport = 1"}}, "work_mem"},
	} {
		c, err := lab.Start(testContext(t), test.o)
		if err == nil {
			c.Close()
		}
		wantError(t, err, "options: ", test.want)
	}
}

func TestFolderOfSomethingElse(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	must(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("precious"), 0o644))
	before := listing(t, dir)
	_, err := lab.Start(testContext(t), lab.Options{Dir: dir})
	wantError(t, err, dir, "thesis.txt", "choose an empty or missing folder")
	if !errors.Is(err, lab.ErrForeignFolder) {
		t.Errorf("got %v, want ErrForeignFolder", err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder changed:\n%swas\n%s", after, before)
	}
	_, err = lab.Start(testContext(t), lab.Options{Dir: filepath.Join(dir, "thesis.txt")})
	wantError(t, err, "thesis.txt", "not a directory")
}

func TestFolderOfAnotherVersion(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "cluster")
	must(t, start(t, lab.Options{Dir: dir}).Close())
	path := filepath.Join(dir, "lab.json")
	text, err := os.ReadFile(path)
	must(t, err)
	rewrite := func(old, new string) {
		t.Helper()
		changed := strings.Replace(string(text), old, new, 1)
		if changed == string(text) {
			t.Fatalf("no %q in lab.json", old)
		}
		must(t, os.WriteFile(path, []byte(changed), 0o600))
	}
	before := listing(t, dir)
	rewrite(`"major": 1`, `"major": 9`)
	for _, open := range []func() (*lab.Cluster, error){
		func() (*lab.Cluster, error) { return lab.Start(ctx, lab.Options{Dir: dir}) },
		func() (*lab.Cluster, error) { return lab.Open(ctx, dir) },
	} {
		_, err := open()
		if !errors.Is(err, lab.ErrWrongVersion) {
			t.Errorf("got %v, want ErrWrongVersion", err)
		}
		wantError(t, err, dir, "the cluster is PostgreSQL 9", lab.EnvBinDir)
	}
	rewrite(`"format": 1`, `"format": 7`)
	_, err = lab.Start(ctx, lab.Options{Dir: dir})
	wantError(t, err, dir, "format 7", "choose another folder")
	if after := listing(t, dir); after != before {
		t.Errorf("the folder changed:\n%swas\n%s", after, before)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, primary, replica := pair(t)
	must(t, primary.Stop(ctx))
	l, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(primary.Port()))
	must(t, err)
	defer l.Close()
	err = primary.Start(ctx)
	if !errors.Is(err, lab.ErrPortTaken) {
		t.Errorf("got %v, want ErrPortTaken", err)
	}
	wantError(t, err, "node1", strconv.Itoa(primary.Port()), "stop the other program")
	must(t, l.Close())
	must(t, primary.Start(ctx))
	query[int](t, replica.DSN(), "select 1")
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	_, err := lab.Start(testContext(t), lab.Options{BinDir: folder(t)})
	if !errors.Is(err, lab.ErrNoPostgres) {
		t.Errorf("got %v, want ErrNoPostgres", err)
	}
	wantError(t, err, "initdb and postgres")
}

// On a full disk the lab says so and gives back what it took, and the user's
// own file is still there. Only root can mount a small disk; what others can
// test of it is in TestNameDiskFull.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return
	}
	ctx := testContext(t)
	disk := folder(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Fatalf("mount a small disk: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	must(t, os.WriteFile(filepath.Join(disk, "mine.txt"), []byte("mine"), 0o644))
	before := listing(t, disk)
	_, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(disk, "cluster"), Replicas: 2})
	if !errors.Is(err, lab.ErrDiskFull) {
		t.Fatalf("got %v, want ErrDiskFull", err)
	}
	wantError(t, err, "disk is full")
	if after := listing(t, disk); after != before {
		t.Errorf("the disk holds\n%swant\n%s", after, before)
	}

	// One node fits; a server that cannot start any more says why.
	c := start(t, lab.Options{Dir: filepath.Join(disk, "cluster")})
	must(t, c.Primary().Kill(ctx))
	filler, err := os.Create(filepath.Join(disk, "filler"))
	must(t, err)
	defer filler.Close()
	for chunk := make([]byte, 4096); err == nil; {
		_, err = filler.Write(chunk)
	}
	began := time.Now()
	if err = c.Primary().Start(ctx); !errors.Is(err, lab.ErrDiskFull) {
		t.Errorf("start on a full disk: got %v, want ErrDiskFull", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the answer took %s", took)
	}
	must(t, os.Remove(filler.Name()))
	must(t, filler.Close())
	must(t, c.Primary().Start(ctx))
}

// Root's servers run as another user, who must be able to get to the folder.
func TestUnreachableFolder(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(folder(t), "closed")
	must(t, os.Mkdir(closed, 0o700))
	dir := filepath.Join(closed, "cluster")
	c, err := lab.Start(testContext(t), lab.Options{Dir: dir})
	if os.Geteuid() != 0 {
		// Nobody else is involved.
		must(t, err)
		must(t, c.Close())
		return
	}
	wantError(t, err, closed, "chmod o+x")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder that was of no use: got %v, want it gone", err)
	}
}
