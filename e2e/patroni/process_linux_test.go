package patroni_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a process.
const patience = 30 * time.Second

// account is who the programs run as: PostgreSQL refuses to run as root. Nil is
// the caller.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("there is neither a user postgres nor nobody to run as")
}

// home is a folder for all files of the processes started in it. When the test
// ends, or the test process dies in whatever way, they end and the folder goes.
type home struct {
	dir   string
	as    *syscall.Credential
	guard *exec.Cmd
	life  *os.File // our end of the guard's pipe
	all   []*process
}

// guardScript waits until the pipe on descriptor 3 closes, kills the PostgreSQL
// servers below the folder and removes it. Patroni starts them in sessions of
// their own, so that they outlive it. A server's working folder proves that the
// pid in its file is still its own.
const guardScript = `
read -r _ <&3
tries=0
while [ $tries -lt 100 ]; do
	left=
	for file in "$1"/*/data/postmaster.pid; do
		read -r pid <"$file" || continue
		[ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ] || continue
		left=yes
		if [ $tries -lt 30 ]; then kill -QUIT "$pid"; else kill -KILL "$pid"; fi
	done
	[ "$left" ] || break
	sleep 0.1
	tries=$((tries + 1))
done
rm -rf "$1"
` // what fails is tried again

func newHome(t *testing.T) *home {
	t.Helper()
	as, err := account()
	if err != nil {
		t.Fatal(err)
	}
	// Memory is much faster, where there is any to speak of.
	parent := "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(parent, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 4<<30 || os.Getenv("TMPDIR") != "" {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "pgtide-patroni-")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{dir: dir, as: as}
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	h.life = write
	h.guard = exec.Command("/bin/sh", "-c", guardScript, "guard", dir)
	h.guard.Dir = "/"
	h.guard.ExtraFiles = []*os.File{read}
	h.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: as}
	if err := h.guard.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *home) close(t *testing.T) {
	if t.Failed() {
		for _, p := range h.all {
			t.Logf("log of %s ends:\n%s", p.name, p.tail())
		}
	}
	for _, p := range h.all {
		p.kill(t)
	}
	h.life.Close()
	if err := h.guard.Wait(); err != nil {
		t.Errorf("end the servers: %v", err)
	}
	// The guard removes what is its own, and in /tmp that is not the folder.
	if err := os.RemoveAll(h.dir); err != nil {
		t.Error(err)
	}
}

// process is a program that dies with the test process.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// starter runs functions on a thread that lives as long as this process: a
// process with a parent-death signal gets it when the thread that has started it
// ends.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// run starts a program in the folder name of h.
func (h *home) run(t *testing.T, name string, argv ...string) *process {
	t.Helper()
	log := filepath.Join(h.dir, name+".log")
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = h.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: h.as}
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	h.all = append(h.all, p)
	return p
}

// signal sends a signal and waits until the process has ended.
func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal %s: %v", p.name, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Errorf("%s has not ended %v after %v", p.name, patience, sig)
	}
}

func (p *process) kill(t *testing.T) { p.signal(t, syscall.SIGKILL) }

// tail is the end of the process's log.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// killServer kills the PostgreSQL server of a data folder with SIGKILL, and
// everything below it, as a power cut would.
func killServer(data string) error {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || pid < 2 {
		return fmt.Errorf("%q is not a server's pid", first)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != data {
		return fmt.Errorf("process %d is not the server of %s: %s, %v", pid, data, cwd, err)
	}
	// A stopped server starts no more processes while its children are looked for.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	pids := append(children(pid), pid)
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// children are the processes whose parent is pid.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var all []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid: the name may hold anything.
		id, _, _ := strings.Cut(string(text), " ")
		rest := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if child, err := strconv.Atoi(id); err == nil && len(rest) > 1 && rest[1] == strconv.Itoa(pid) {
			all = append(all, child)
		}
	}
	return all
}
