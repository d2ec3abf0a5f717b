package lab_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtide/pgtide/lab"
)

// Whatever happens to the parent, nothing of its clusters keeps running: no
// server, no backend, no supervisor, and a frozen one neither.
func TestKilledParentLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"running", "frozen"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(folder(t), "cluster")
			child := startChild(t, role+",dir="+dir)
			report := child.report(t)
			if len(report.PIDs) < 10 {
				t.Fatalf("got %d processes below the child, want two servers and their supervisors", len(report.PIDs))
			}
			must(t, child.cmd.Process.Kill())
			child.cmd.Wait()
			eventually(t, 10*time.Second, "all processes gone", func() bool { return alive(t, report.PIDs) == "" })

			// The folder is whole, and the next process may have it.
			c := start(t, lab.Options{Dir: dir})
			must(t, c.WaitCaughtUp(testContext(t)))
		})
	}
}

func TestNamedFolderIsKept(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "a folder", "it's mine")
	c := start(t, lab.Options{Dir: dir, Auth: lab.Password})
	exec1(t, c.Primary().DSN(), "create table t as select 1 as i")
	dsn := c.Primary().DSN()
	must(t, c.Close())
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))

	_, err := lab.Start(ctx, lab.Options{Dir: dir, Auth: lab.Trust})
	wantError(t, err, dir, "made with auth password")
	_, err = lab.Start(ctx, lab.Options{Dir: dir, AppRole: "other"})
	wantError(t, err, dir, "role app")

	c = start(t, lab.Options{Dir: dir, Replicas: 1, Settings: map[string]string{"work_mem": "5MB"}})
	if got := c.Primary().DSN(); got != dsn {
		t.Errorf("DSN after the second start: got %s, want %s", got, dsn)
	}
	must(t, c.WaitCaughtUp(ctx))
	for _, n := range c.Nodes() {
		if got := query[string](t, n.DSN(), "select count(*) || current_setting('work_mem') from t"); got != "15MB" {
			t.Errorf("rows and work_mem on %s: got %s, want 15MB", n.Name(), got)
		}
	}
	must(t, c.Close())
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Errorf("the user's file: %v", err)
	}

	// Opened, a stopped cluster is ours to start node by node.
	c, err = lab.Open(ctx, dir)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	for _, n := range c.Nodes() {
		must(t, n.Start(ctx))
	}
	must(t, c.WaitCaughtUp(ctx))
}

func TestKeep(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, err := lab.Start(ctx, lab.Options{})
	must(t, err)
	c.Keep()
	must(t, c.Close())
	t.Cleanup(func() { os.RemoveAll(c.Dir()) })
	if _, err := os.Stat(filepath.Join(c.Dir(), "node1", "server.log")); err != nil {
		t.Errorf("the log of a kept cluster: %v", err)
	}
}

// Detached servers outlive the process that started them, and other processes
// find them by their folder. The second handle here stands for such a process.
func TestDetachAndOpen(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, err := lab.Start(ctx, lab.Options{Replicas: 1, Detach: true})
	must(t, err)
	t.Cleanup(func() {
		if c, err := lab.Open(ctx, c.Dir()); err == nil {
			c.Close()
		}
	})
	must(t, c.Detach())
	if _, err := c.AddReplica(ctx); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("a detached handle: got %v, want ErrClosed", err)
	}

	c, err = lab.Open(ctx, c.Dir())
	must(t, err)
	must(t, c.WaitCaughtUp(ctx))
	replica := c.Replicas()[0]
	must(t, replica.Cut(ctx))
	must(t, replica.Kill(ctx))
	must(t, replica.Start(ctx))

	// A second handle at the same time sees and undoes what the first did.
	second, err := lab.Open(ctx, c.Dir())
	must(t, err)
	st := statusOf(t, second, replica.Name())
	if !st.Cut || st.State != lab.Running {
		t.Errorf("got status %+v, want the replica running and cut", st)
	}
	must(t, second.Replicas()[0].Heal(ctx))
	added, err := second.AddReplica(ctx)
	must(t, err)
	if n, err := c.Node(added.Name()); err != nil || n.Port() != added.Port() {
		t.Errorf("the node the other handle added: got %v, %v", n, err)
	}
	must(t, second.Detach())

	status, err := c.Status(ctx)
	must(t, err)
	if !status.Detached || status.OwnerPID != 0 {
		t.Errorf("got detached %t with owner %d, want true and none", status.Detached, status.OwnerPID)
	}
	must(t, c.Close())
	for _, n := range status.Nodes {
		if living := alive(t, []int{n.PID}); living != "" {
			t.Errorf("%s after close: %s", n.Name, living)
		}
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("temporary folder: got %v, want it gone", err)
	}
	_, err = lab.Open(ctx, c.Dir())
	if !errors.Is(err, lab.ErrForeignFolder) {
		t.Errorf("open what is not there: got %v, want ErrForeignFolder", err)
	}
}

// Servers really outlive a process that detached them.
func TestDetachedServersOutliveTheirParent(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "cluster")
	child := startChild(t, "detach,dir="+dir)
	report := child.report(t)
	must(t, child.cmd.Process.Kill())
	child.cmd.Wait()
	c, err := lab.Open(ctx, dir)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.WaitCaughtUp(ctx))

	// Up once more is no error, and starts what is stopped.
	must(t, c.Primary().Stop(ctx))
	_, err = lab.Start(ctx, lab.Options{Dir: dir})
	if !errors.Is(err, lab.ErrFolderInUse) {
		t.Errorf("own a detached cluster that runs: got %v, want ErrFolderInUse", err)
	}
	again, err := lab.Start(ctx, lab.Options{Dir: dir, Detach: true, Replicas: 2})
	must(t, err)
	must(t, again.WaitCaughtUp(ctx))
	if got := len(again.Nodes()); got != 3 {
		t.Errorf("nodes: got %d, want 3", got)
	}
	must(t, again.Close())
	eventually(t, 5*time.Second, "all processes gone", func() bool { return alive(t, report.PIDs) == "" })
}

// Another process may look at an owned cluster and break it, but the servers
// stay with their owner.
func TestGuest(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "cluster")
	child := startChild(t, "close,dir="+dir)
	child.report(t)

	_, err := lab.Start(ctx, lab.Options{Dir: dir})
	if !errors.Is(err, lab.ErrFolderInUse) {
		t.Errorf("start in a folder in use: got %v, want ErrFolderInUse", err)
	}
	guest, err := lab.Open(ctx, dir)
	must(t, err)
	replica := guest.Replicas()[0]
	must(t, replica.Cut(ctx))
	must(t, replica.Heal(ctx))
	must(t, replica.Freeze(ctx))
	must(t, replica.Thaw(ctx))
	must(t, guest.WaitCaughtUp(ctx))
	must(t, replica.Stop(ctx))
	for _, err := range []error{replica.Start(ctx), replica.Rejoin(ctx)} {
		if !errors.Is(err, lab.ErrFolderInUse) {
			t.Errorf("start a server as a guest: got %v, want ErrFolderInUse", err)
		}
	}
	if _, err = guest.AddReplica(ctx); !errors.Is(err, lab.ErrFolderInUse) {
		t.Errorf("add a replica as a guest: got %v, want ErrFolderInUse", err)
	}
	primary := guest.Primary()
	must(t, guest.Close())
	query[int](t, primary.DSN(), "select 1")
	child.stdin.Close()
	if err := child.cmd.Wait(); err != nil {
		t.Errorf("owner: %v", err)
	}
}

// The lab needs no rights: as root this test runs it once more as nobody.
func TestStartAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	exe, err := os.Executable()
	must(t, err)
	if os.Geteuid() != 0 {
		must(t, startChild(t, "close").finish(t))
		return
	}
	// The folder of a test binary is closed to other users.
	copied := filepath.Join(dir, "lab.test")
	copyProgram(t, exe, copied)
	must(t, os.Chmod(dir, 0o777))
	cmd := exec.Command(copied)
	cmd.Dir = dir
	cmd.SysProcAttr = asNobody(t)
	child := startChildAs(t, cmd, "close", "HOME="+dir, "XDG_CACHE_HOME=", "PGTIDE_CACHE=")
	must(t, child.finish(t))
	if _, err := os.Stat(filepath.Join(dir, ".cache", "pgtide", "templates")); err != nil {
		t.Errorf("cache of an ordinary user: %v", err)
	}
}

// finish waits for a report, lets the child go and returns how it ended.
func (c *child) finish(t *testing.T) error {
	c.report(t)
	c.stdin.Close()
	return c.cmd.Wait()
}

func copyProgram(t *testing.T, src, dst string) {
	t.Helper()
	in, err := os.Open(src)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Close()))
}

// Temporary folders of killed processes are removed in the end, and nothing
// else that looks like one.
func TestSweepOfAbandonedFolders(t *testing.T) {
	t.Parallel()
	tmp := folder(t)
	child := startChild(t, "running", "TMPDIR="+tmp)
	report := child.report(t)
	must(t, child.cmd.Process.Kill())
	child.cmd.Wait()
	eventually(t, 10*time.Second, "all processes gone", func() bool { return alive(t, report.PIDs) == "" })
	foreign := filepath.Join(tmp, "pgtide-lab-mine")
	must(t, os.Mkdir(foreign, 0o755))

	sweep := func() []string {
		must(t, startChild(t, "close", "TMPDIR="+tmp).finish(t))
		found, err := filepath.Glob(filepath.Join(tmp, "pgtide-lab-*"))
		must(t, err)
		return found
	}
	if got := sweep(); !slices.Contains(got, report.Dir) {
		t.Errorf("folders soon after the kill: got %v, want %s among them", got, report.Dir)
	}
	hourAgo := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(filepath.Join(report.Dir, "lab.json"), hourAgo, hourAgo))
	if got := sweep(); !slices.Equal(got, []string{foreign}) {
		t.Errorf("folders an hour later: got %v, want %s alone", got, foreign)
	}
}

// Not parallel: it changes the environment. The steps in Logf tell what was
// done; that is also the moment to take a port away from a start.
func TestCacheAndLatePortTaken(t *testing.T) {
	ctx := testContext(t)
	cache := folder(t)
	t.Setenv(lab.EnvCache, cache)
	var mu sync.Mutex
	var steps []string
	onInitdb := func() {}
	logf := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		step := fmt.Sprintf(format, args...)
		steps = append(steps, step)
		if strings.Contains(step, "running initdb") {
			onInitdb()
		}
	}
	said := func(want string) bool {
		return slices.ContainsFunc(steps, func(step string) bool { return strings.Contains(step, want) })
	}
	up := func(o lab.Options) *lab.Cluster {
		t.Helper()
		steps, o.Replicas, o.Logf = nil, 1, logf
		c := start(t, o)
		must(t, c.WaitCaughtUp(ctx))
		return c
	}

	up(lab.Options{})
	if !said("running initdb of PostgreSQL") {
		t.Errorf("with an empty cache: got steps %q, want initdb among them", steps)
	}
	up(lab.Options{})
	if said("initdb") {
		t.Errorf("with a filled cache: got steps %q, want no initdb", steps)
	}
	templates, err := os.ReadDir(filepath.Join(cache, "templates"))
	must(t, err)
	for _, entry := range templates {
		if ext := filepath.Ext(entry.Name()); ext != ".tar" && ext != ".lock" {
			t.Errorf("left in the cache: %s", entry.Name())
		}
	}

	// A cache that cannot be used is not needed. While initdb runs, the ports
	// are chosen but not yet taken.
	t.Setenv(lab.EnvCache, filepath.Join(os.DevNull, "cache"))
	dir := filepath.Join(folder(t), "cluster")
	var thief net.Listener
	onInitdb = func() {
		text, err := os.ReadFile(filepath.Join(dir, "lab.json"))
		if err != nil {
			t.Error(err)
			return
		}
		var chosen struct {
			Nodes []struct{ Port int } `json:"nodes"`
		}
		if err := json.Unmarshal(text, &chosen); err != nil {
			t.Error(err)
			return
		}
		if thief, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", chosen.Nodes[0].Port)); err != nil {
			t.Error(err)
		}
	}
	c := up(lab.Options{Dir: dir})
	defer thief.Close()
	if !said("initdb for this cluster alone") || !said("choosing other ports") {
		t.Errorf("without a cache and with a port taken late: got steps %q, want both said", steps)
	}
	if got := c.Primary().Port(); got == thief.Addr().(*net.TCPAddr).Port {
		t.Errorf("port: got %d, which is somebody else's", got)
	}
	for _, name := range []string{"initdb", "template.tar"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in the cluster folder: got %v, want it gone", name, err)
		}
	}
}
