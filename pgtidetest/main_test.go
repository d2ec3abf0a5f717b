package pgtidetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtide/pgtide/pgtidetest"
)

// schema is what the databases of these tests begin with.
const schema = "create table message (id text primary key)"

func TestMain(m *testing.M) { pgtidetest.Main(m, pgtidetest.Options{Schema: schema}) }

// write inserts a row on the primary and forgets it.
func write(t *testing.T, tide *pgtidetest.Tide, id string) {
	t.Helper()
	if _, err := tide.Exec(t.Context(), "insert into message values ($1)", id); err != nil {
		t.Fatal(err)
	}
}

// shown lists the rows that a node shows to who asks it directly.
func shown(t *testing.T, tide *pgtidetest.Tide, node string) string {
	t.Helper()
	var ids string
	err := tide.Connect(node).QueryRow(context.Background(), "select coalesce(string_agg(id, ' ' order by id), '') from message").Scan(&ids)
	if err != nil {
		t.Fatalf("read from %s: %v", node, err)
	}
	return ids
}

func wantShown(t *testing.T, tide *pgtidetest.Tide, want string, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		if got := shown(t, tide, node); got != want {
			t.Errorf("%s shows %q, want %q", node, got, want)
		}
	}
}

func wantText(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("the text lacks %q:\n%s", w, got)
		}
	}
}

// victim is a test that may fail, seen from outside.
type victim struct {
	testing.TB

	mu       sync.Mutex // guards the fields below
	failed   bool
	text     strings.Builder
	cleanups []func()
}

// suffer runs f as a test of its own, to its end, and returns what became of it.
func suffer(t *testing.T, f func(testing.TB)) *victim {
	v := &victim{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(v.cleanups) - 1; i >= 0; i-- {
				v.cleanups[i]()
			}
		}()
		f(v)
	}()
	<-done
	return v
}

func (v *victim) Cleanup(f func()) { v.cleanups = append(v.cleanups, f) }

func (v *victim) Failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

func (v *victim) log(failed bool, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = v.failed || failed
	fmt.Fprintln(&v.text, text)
}

func (v *victim) Log(args ...any)                   { v.log(false, fmt.Sprint(args...)) }
func (v *victim) Logf(format string, args ...any)   { v.log(false, fmt.Sprintf(format, args...)) }
func (v *victim) Errorf(format string, args ...any) { v.log(true, fmt.Sprintf(format, args...)) }
func (v *victim) Fatalf(format string, args ...any) {
	v.log(true, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// wantFatal runs f as a test that must fail, and say this.
func wantFatal(t *testing.T, f func(testing.TB), want ...string) *victim {
	t.Helper()
	v := suffer(t, f)
	if !v.Failed() {
		t.Errorf("the test passed, want it to fail")
	}
	wantText(t, v.text.String(), want...)
	return v
}

// scenarios are tests that run in processes of their own, by [program.run].
var scenarios = map[string]func(t *testing.T){}

// scenarioEnv names the scenario to a child.
const scenarioEnv = "PGTIDETEST_SCENARIO"

// TestScenario is what a child runs; there is nothing to it in a parent.
func TestScenario(t *testing.T) {
	if name := os.Getenv(scenarioEnv); name != "" {
		t.Run(name, scenarios[name])
	}
}

// program runs scenarios in processes that share clusters with each other and
// with nobody else.
type program struct {
	dir string // where they meet
	env []string
}

func newProgram(t *testing.T, env ...string) *program {
	t.Helper()
	dir, err := os.MkdirTemp("", "tide") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	p := &program{dir, append([]string{
		pgtidetest.EnvDir + "=" + dir, pgtidetest.EnvLinger + "=300ms", pgtidetest.EnvKeep + "=0", pgtidetest.EnvDSN + "=",
	}, env...)}
	t.Cleanup(func() {
		p.awaitEnd(t)
		os.RemoveAll(dir)
	})
	return p
}

func (p *program) command(t *testing.T, scenario string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestScenario$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(append(append(os.Environ(), p.env...), scenarioEnv+"="+scenario), env...)
	return cmd
}

// run runs a scenario to its end and returns what it printed.
func (p *program) run(t *testing.T, scenario string, env ...string) (string, error) {
	t.Helper()
	out, err := p.command(t, scenario, env...).CombinedOutput()
	return string(out), err
}

func (p *program) mustRun(t *testing.T, scenario string, env ...string) string {
	t.Helper()
	out, err := p.run(t, scenario, env...)
	if err != nil {
		t.Fatalf("scenario %s: %v\n%s\nthe keeper logged:\n%s", scenario, err, out, p.log())
	}
	return out
}

func (p *program) log() string {
	logs, _ := filepath.Glob(filepath.Join(p.dir, "*.log"))
	var text []byte
	for _, l := range logs {
		one, _ := os.ReadFile(l)
		text = append(text, one...)
	}
	return string(text)
}

// records lists the folders of the clusters that there are.
func (p *program) records(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "clusters-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil {
			dirs = append(dirs, string(text))
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return dirs
}

// awaitEnd returns once the keeper has ended.
func (p *program) awaitEnd(t *testing.T) {
	t.Helper()
	until(t, "the keeper's end\n"+p.log(), func() bool { return len(processesWith(t, p.dir)) == 0 })
}

// processesWith lists the processes that have the text in their command line or
// their environment, other than this one.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	out, err := exec.Command("ps", "axeww", "-o", "pid=,command=").Output()
	if err != nil {
		t.Fatalf("list processes: %v", err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		pid, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(line, text) && pid != fmt.Sprint(os.Getpid()) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// until polls for a state of other processes, which send no signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}
