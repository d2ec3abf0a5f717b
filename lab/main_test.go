package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// envChild makes the test binary play another process that uses the lab.
const envChild = "PGTIDE_LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(envChild); role != "" {
		if err := playChild(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// childReport is what a child process says of its cluster, as one JSON line.
type childReport struct {
	Dir   string
	Ports []int
	PIDs  []int // every process below the child
}

// playChild starts clusters, reports them and waits for its input to end. The
// role is a list of words: running, frozen, subscriber, twice, dir=<folder>, close,
// detach.
func playChild(role string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := lab.Options{Replicas: 1}
	clusters := 1
	var frozen, subscriber, closing bool
	for word := range strings.SplitSeq(role, ",") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "frozen":
			frozen = true
		case "subscriber":
			subscriber = true
		case "twice":
			clusters = 2
		case "close":
			closing = true
		case "detach":
			o.Detach = true
		case "dir":
			o.Dir = value
		}
	}
	for range clusters {
		c, err := lab.Start(ctx, o)
		if err != nil {
			return err
		}
		if subscriber {
			if _, err := c.AddSubscriber(ctx, lab.SubscriberOptions{}); err != nil {
				return err
			}
		}
		report := childReport{Dir: c.Dir()}
		for _, n := range c.Nodes() {
			report.Ports = append(report.Ports, n.Port())
		}
		if frozen {
			for _, n := range c.Nodes() {
				if err := n.Freeze(ctx); err != nil {
					return err
				}
			}
		}
		if report.PIDs, err = family(os.Getpid()); err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			return err
		}
		if closing {
			defer c.Close()
		}
	}
	_, err := bufio.NewReader(os.Stdin).ReadString('\n') // the parent closes it
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// child is the test binary running as another process.
type child struct {
	cmd     *exec.Cmd
	reports *bufio.Scanner
	stdin   io.Closer
}

func startChild(t *testing.T, role string, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startChildAs(t, exec.Command(exe), role, env...)
}

func startChildAs(t *testing.T, cmd *exec.Cmd, role string, env ...string) *child {
	t.Helper()
	cmd.Env = append(os.Environ(), append(env, envChild+"="+role)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, reports: bufio.NewScanner(stdout), stdin: stdin}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c
}

func (c *child) report(t *testing.T) childReport {
	t.Helper()
	var report childReport
	if !c.reports.Scan() {
		t.Fatalf("child process ended without a report: %v", c.reports.Err())
	}
	if err := json.Unmarshal(c.reports.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	return report
}

// family lists the living processes below pid.
func family(pid int) ([]int, error) {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	below := map[int]bool{pid: true}
	var found []int
	for grown := true; grown; {
		grown = false
		for line := range strings.Lines(string(out)) {
			var p, parent int
			var stat string
			if n, _ := fmt.Sscan(line, &p, &parent, &stat); n != 3 || below[p] || !below[parent] || strings.HasPrefix(stat, "Z") {
				continue
			}
			below[p], grown = true, true
			found = append(found, p)
		}
	}
	return found, nil
}

// alive returns those of the processes that still run.
func alive(t *testing.T, pids []int) string {
	t.Helper()
	list := make([]string, len(pids))
	for i, pid := range pids {
		list[i] = strconv.Itoa(pid)
	}
	out, _ := exec.Command("ps", "-o", "pid=,stat=,args=", "-p", strings.Join(list, ",")).Output() // exit status 1: none
	var living strings.Builder
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && !strings.HasPrefix(fields[1], "Z") {
			living.WriteString(line)
		}
	}
	return living.String()
}

// eventually polls until done says yes; servers offer nothing to wait on.
func eventually(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", within, what)
		}
		<-tick.C
	}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// start makes a cluster that the test's end closes.
func start(t *testing.T, o lab.Options) *lab.Cluster {
	t.Helper()
	c, err := lab.Start(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// folder is a fresh folder that the servers' user can reach: t.TempDir is
// closed to everybody else, and root's servers run as somebody else.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtide-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func query[T any](t *testing.T, dsn, sql string, args ...any) T {
	t.Helper()
	got, err := tryQuery[T](testContext(t), dsn, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func tryQuery[T any](ctx context.Context, dsn, sql string, args ...any) (got T, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return got, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql, args...).Scan(&got)
	return got, err
}

func exec1(t *testing.T, dsn, sql string) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError fails the test unless err mentions every one of the words.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got error %q, want it to mention %q", err, word)
		}
	}
}

func statusOf(t *testing.T, c *lab.Cluster, name string) lab.NodeStatus {
	t.Helper()
	status, err := c.Status(testContext(t))
	must(t, err)
	for _, n := range status.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s in the status", name)
	return lab.NodeStatus{}
}

func goroutines() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
