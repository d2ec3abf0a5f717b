package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterFiles is the least of a data directory that has a system identifier.
func clusterFiles(t *testing.T, id uint64) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"global", "pg_wal"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	control := make([]byte, 8192)
	binary.NativeEndian.PutUint64(control, id)
	control[200] = 7
	binary.NativeEndian.PutUint32(control[288:], crc32.Checksum(control[:288], castagnoli))
	segment := make([]byte, 8192)
	segment[0] = 1
	binary.NativeEndian.PutUint64(segment[walSystemID:], id)
	for name, data := range map[string][]byte{
		"global/pg_control":               control,
		"pg_wal/000000010000000000000001": segment,
		"pg_wal/000000010000000000000002": make([]byte, 8192),
		"pg_wal/00000002.history":         []byte("1\t0/3000000\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSetSystemID(t *testing.T) {
	const before, after = 0x1122334455667788, 0x0102030405060708
	dir := clusterFiles(t, before)
	if err := setSystemID(dir, after); err != nil {
		t.Fatal(err)
	}
	control, checksum, err := readControl(dir)
	if err != nil || checksum != 288 {
		t.Fatalf("control file: got checksum at %d, %v, want 288", checksum, err)
	}
	if got := binary.NativeEndian.Uint64(control); got != after || control[200] != 7 {
		t.Errorf("control file: got id %x and byte %d, want %x and 7", got, control[200], after)
	}
	segment, err := os.ReadFile(filepath.Join(dir, "pg_wal/000000010000000000000001"))
	if err != nil {
		t.Fatal(err)
	}
	if got := binary.NativeEndian.Uint64(segment[walSystemID:]); got != after {
		t.Errorf("WAL: got id %x, want %x", got, after)
	}
	empty, err := os.ReadFile(filepath.Join(dir, "pg_wal/000000010000000000000002"))
	if err != nil || !bytes.Equal(empty, make([]byte, 8192)) {
		t.Errorf("a segment made in advance was changed (%v)", err)
	}

	// A layout the lab does not know is left alone.
	for _, name := range []string{"global/pg_control", "pg_wal/000000010000000000000001"} {
		dir := clusterFiles(t, before)
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[walSystemID] ^= 0xff
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := setSystemID(dir, after); !errors.Is(err, errUnknownLayout) {
			t.Errorf("broken %s: got %v, want errUnknownLayout", name, err)
		}
		control, err := os.ReadFile(filepath.Join(dir, controlFile))
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.NativeEndian.Uint64(control); got != before {
			t.Errorf("broken %s: got id %x, want %x as before", name, got, uint64(before))
		}
	}
}

func TestCopyTree(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	segment := make([]byte, 1<<20+100)
	copy(segment, "start")
	segment[300<<10] = 1
	files := map[string]string{"PG_VERSION": "15\n", "pg_wal/000000010000000000000001": string(segment), "pg_notify/0000": "x", "postmaster.pid": "1"}
	for name, text := range files {
		path := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	skip := func(name string) bool { return name == "pg_notify" || name == "postmaster.pid" }
	if err := copyTree(t.Context(), src, dst, caller(), skip); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dst, name))
		if skip(name) || skip(filepath.Dir(name)) {
			if err == nil {
				t.Errorf("%s was copied", name)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("%s: got %d bytes, %v, want the same %d bytes", name, len(got), err, len(want))
		}
	}
	info, err := os.Stat(filepath.Join(dst, "pg_notify"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a skipped folder: got %v, %v, want it empty with mode 700", info, err)
	}

	if err := os.Mkdir(filepath.Join(src, "pg_tblspc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/elsewhere", filepath.Join(src, "pg_tblspc", "16384")); err != nil {
		t.Fatal(err)
	}
	err = copyTree(t.Context(), src, dst+"2", caller(), nil)
	if err == nil || !strings.Contains(err.Error(), "tablespace pg_tblspc/16384") {
		t.Errorf("a tablespace: got %v, want an error that names it", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := copyTree(ended, src, dst+"3", caller(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: got %v, want Canceled", err)
	}
}

func TestNameDiskFull(t *testing.T) {
	var err error = &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	if runtime.GOOS == "linux" {
		// The real thing, where there is one.
		full, errOpen := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if errOpen != nil {
			t.Fatal(errOpen)
		}
		defer full.Close()
		_, err = full.Write([]byte("x"))
	}
	if got := nameDiskFull(err); !errors.Is(got, ErrDiskFull) || !errors.Is(got, syscall.ENOSPC) {
		t.Errorf("got %v, want ErrDiskFull and ENOSPC", got)
	}
	if got := nameDiskFull(os.ErrExist); got != os.ErrExist {
		t.Errorf("got %v, want the error as it was", got)
	}
}

func TestWithLog(t *testing.T) {
	cause := errors.New("the server ended")
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	for text, want := range map[string]error{
		`FATAL:  could not write lock file "postmaster.pid": No space left on device`: ErrDiskFull,
		`LOG:  could not bind IPv4 address "127.0.0.1": Address already in use`:       ErrPortTaken,
	} {
		err := withLog(cause, append(slices.Clone(lines), text))
		if !errors.Is(err, want) || !errors.Is(err, cause) {
			t.Errorf("got %v, want %v and the cause", err, want)
		}
		if !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "line 21") || strings.Contains(err.Error(), "line 20") {
			t.Errorf("got %v, want the last %d lines", err, logTailLines)
		}
	}
	if got := withLog(cause, nil).Error(); !strings.Contains(got, "log is empty") {
		t.Errorf("got %q, want it to say that the log is empty", got)
	}
}

// Not parallel: it changes the environment.
func TestFindBinaries(t *testing.T) {
	dir, empty := t.TempDir(), t.TempDir()
	fake := func(name, banner string) string {
		bin := filepath.Join(dir, name)
		script := "#!/bin/sh\necho '" + banner + "'\n"
		if err := errors.Join(os.MkdirAll(bin, 0o755),
			os.WriteFile(filepath.Join(bin, "postgres"), []byte(script), 0o755),
			os.WriteFile(filepath.Join(bin, "initdb"), nil, 0o755)); err != nil {
			t.Fatal(err)
		}
		return bin
	}
	ctx, self := t.Context(), caller()
	new17, old13 := fake("new", "postgres (PostgreSQL) 17.5 (Debian 17.5-1)"), fake("old", "postgres (PostgreSQL) 13.2")
	beta := fake("beta", "postgres (PostgreSQL) 19beta1")

	t.Setenv("PATH", strings.Join([]string{"relative", empty, old13, new17}, string(os.PathListSeparator)))
	t.Setenv(EnvBinDir, "")
	b, err := findBinaries(ctx, "", self)
	if err != nil || b.version != "17.5" || b.major != 17 || filepath.Base(b.dir) != "new" {
		t.Errorf("on PATH: got %+v, %v, want 17.5 behind the one that is too old", b, err)
	}
	t.Setenv(EnvBinDir, beta)
	if b, err = findBinaries(ctx, "", self); err != nil || b.version != "19beta1" || b.major != 19 {
		t.Errorf("by the environment: got %+v, %v, want 19beta1", b, err)
	}
	if b, err = findBinaries(ctx, new17, self); err != nil || b.major != 17 {
		t.Errorf("by option: got %+v, %v, want 17", b, err)
	}
	t.Setenv(EnvBinDir, empty)
	if _, err = findBinaries(ctx, "", self); !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), EnvBinDir) {
		t.Errorf("a wrong environment: got %v, want ErrNoPostgres that names %s", err, EnvBinDir)
	}
	if _, err = findBinaries(ctx, old13, self); !errors.Is(err, ErrWrongVersion) {
		t.Errorf("version 13: got %v, want ErrWrongVersion", err)
	}

	// Nothing anywhere: one line that says what to install.
	t.Setenv(EnvBinDir, "")
	t.Setenv("PATH", empty)
	defer func(patterns []string) { installPatterns = patterns }(installPatterns)
	installPatterns = nil
	t.Setenv(EnvCache, empty)
	_, err = findBinaries(ctx, "", self)
	if !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), "install PostgreSQL 14 or newer") || strings.Contains(err.Error(), "\n") {
		t.Errorf("no servers: got %v, want one line that says what to install", err)
	}
	// Last of all comes the cache folder.
	if err := os.MkdirAll(filepath.Join(empty, "postgres", "17"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(new17, filepath.Join(empty, "postgres", "17", "bin")); err != nil {
		t.Fatal(err)
	}
	if b, err = findBinaries(ctx, "", self); err != nil || b.major != 17 {
		t.Errorf("in the cache: got %+v, %v, want 17", b, err)
	}
	got := []string{"/usr/lib/postgresql/9/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin"}
	slices.SortFunc(got, newestFirst)
	if got[0] != "/usr/lib/postgresql/17/bin" || got[2] != "/usr/lib/postgresql/9/bin" {
		t.Errorf("newest first: got %v", got)
	}
}

func TestClaimPort(t *testing.T) {
	dir := t.TempDir()
	port, lock, err := claimPort(dir)
	if err != nil {
		t.Fatal(err)
	}
	if low, high := portRange(); port < low || port >= high {
		t.Errorf("port: got %d, want one from %d to %d", port, low, high-1)
	}
	if _, err := lockPort(port, dir); !errors.Is(err, ErrPortTaken) {
		t.Errorf("lock it twice: got %v, want ErrPortTaken", err)
	}
	lock.Close()

	// A stopped cluster keeps its port, as long as it has it.
	s := &state{Format: stateFormat, Account: caller(), Nodes: []nodeState{{Name: "node1", Port: port}}}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := lockPort(port, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !reservedFor(again, port, dir) {
		t.Error("the cluster itself may not have its port")
	}
	if reservedFor(again, port, "/elsewhere") {
		t.Error("another cluster may have the port")
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil {
		t.Fatal(err)
	}
	if !reservedFor(again, port, "/elsewhere") {
		t.Error("the port of a cluster that is gone is kept")
	}
}

func TestUpdateStateTogether(t *testing.T) {
	dir := t.TempDir()
	s := &state{Format: stateFormat, Account: caller()}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	const writers = 20
	err := inParallel(make([]int, writers), func(int) error {
		_, err := updateState(t.Context(), dir, func(s *state) error { s.Made++; return nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err = loadState(dir); err != nil || s.Made != writers {
		t.Errorf("after %d updates: got %d, %v", writers, s.Made, err)
	}
	lock, err := tryLock(filepath.Join(dir, stateLockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := updateState(ctx, dir, func(*state) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held: got %v, want DeadlineExceeded", err)
	}
}

// A supervised command ends with our end of the pipe, and what it started too,
// even when all of it is frozen; a detached one goes on.
func TestSupervise(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	output, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()

	// The command is a shell with two children; beside it there is the watch.
	run := func() (s *supervised, command, watch int, children []int) {
		t.Helper()
		s, err := supervise(caller(), output, nil, "/bin/sh", "-c", "sleep 1000 & sleep 1001; exit")
		if err != nil {
			t.Fatal(err)
		}
		err = poll(ctx, 5*time.Millisecond, func() (bool, error) {
			command, watch, children = 0, 0, nil
			below, err := descendants(s.pid)
			for _, pid := range below {
				p, _ := lookProcess(pid)
				switch line := commandLine(pid); {
				case strings.HasPrefix(line, "sleep 100"):
					children = append(children, pid)
				case p.parent != s.pid:
				case strings.HasPrefix(line, "/bin/sh -c sleep"):
					command = pid
				default:
					watch = pid
				}
			}
			return command != 0 && watch != 0 && len(children) == 2, err
		})
		if err != nil {
			t.Fatalf("processes below the supervisor: command %d, watch %d, children %v: %v", command, watch, children, err)
		}
		return s, command, watch, children
	}
	gone := func(pids ...int) {
		t.Helper()
		for _, pid := range pids {
			if err := poll(ctx, 5*time.Millisecond, func() (bool, error) {
				_, ok := lookProcess(pid)
				return !ok, nil
			}); err != nil {
				t.Errorf("process %d (%s) still lives", pid, commandLine(pid))
			}
		}
	}

	s, command, watch, children := run()
	s.kill()
	gone(append(children, command, watch, s.pid)...)

	s, command, watch, children = run()
	for _, pid := range append([]int{command}, children...) {
		if err := signalProcess(pid, sigStop); err != nil {
			t.Fatal(err)
		}
	}
	s.kill()
	gone(append(children, command, watch, s.pid)...)

	s, command, watch, children = run()
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
	gone(watch)
	for _, pid := range append([]int{command}, children...) {
		// The command goes first: it would end by itself after its children.
		if _, ok := lookProcess(pid); !ok {
			t.Errorf("process %d of a detached command is gone", pid)
		}
		if err := signalProcess(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	gone(append(children, command, s.pid)...)
}

func TestRunCommandEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := runCommand(ctx, caller(), nil, "/bin/sh", "-c", "echo working; sleep 1000")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "working") {
		t.Errorf("got %v, want DeadlineExceeded and the output", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := runCommand(t.Context(), caller(), []byte("read me\n"), "/bin/sh", "-c", `read -r line; [ "$line" = "read me" ]`); err != nil {
		t.Errorf("standard input: %v", err)
	}
}

// The table by ps, for systems without /proc, is the same one.
func TestProcessesFromPS(t *testing.T) {
	self := os.Getpid()
	table, err := processesFromPS("-axo", "pid=,ppid=,state=")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(table, func(p process) bool { return p.pid == self })
	if i < 0 || table[i].parent != os.Getppid() || table[i].frozen() || table[i].ended() {
		t.Errorf("this process: got row %d of %d, want it alive below %d", i, len(table), os.Getppid())
	}
	if none, err := processesFromPS("-o", "pid=,ppid=,state=", "-p", "2147483647"); err != nil || len(none) != 0 {
		t.Errorf("no such process: got %v, %v, want none", none, err)
	}
}

func TestExplain(t *testing.T) {
	other := account{UID: caller().UID + 1}
	for _, test := range []struct {
		a    account
		err  error
		want string
	}{
		{other, syscall.EPERM, "may not change user"},
		{other, syscall.EACCES, "everybody may run"},
		{caller(), syscall.EACCES, "run /bin/x: permission denied"},
	} {
		got := test.a.explain("/bin/x", test.err)
		if !errors.Is(got, test.err) || !strings.Contains(got.Error(), test.want) {
			t.Errorf("%v for user %d: got %q, want %q in it", test.err, test.a.UID, got, test.want)
		}
	}
}

// Another process may be about to make a cluster in the folder.
func TestStartInFolderBeingMade(t *testing.T) {
	dir := t.TempDir()
	lock, err := tryLock(filepath.Join(dir, ownerLockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := Start(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrFolderInUse) {
		t.Errorf("got %v, want ErrFolderInUse", err)
	}
}
