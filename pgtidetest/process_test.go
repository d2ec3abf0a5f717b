package pgtidetest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest"
)

func superuser(t *testing.T, tide *pgtidetest.Tide, node string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), tide.SuperDSN(node))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func init() {
	scenarios["use"] = func(t *testing.T) {
		tide := pgtidetest.New(t)
		write(t, tide, "a")
		tide.WaitReplicas(t.Context())
		wantShown(t, tide, "a", tide.Replicas()...)
		fmt.Println("cluster", tide.Dir())
	}
	scenarios["break and hang"] = func(t *testing.T) {
		tide := pgtidetest.New(t)
		tide.Freeze("node2")
		tide.Kill("node3")
		fmt.Println("cluster", tide.Dir())
		<-t.Context().Done()
	}
	scenarios["fail"] = func(t *testing.T) {
		tide := pgtidetest.New(t)
		write(t, tide, "evidence")
		t.Error("as it should")
	}
}

// hang starts a scenario that breaks a cluster and hangs, and returns once it
// does, with the cluster's folder.
func (p *program) hang(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := p.command(t, "break and hang")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if dir, ok := strings.CutPrefix(lines.Text(), "cluster "); ok {
			return cmd, dir
		}
		fmt.Fprintln(&text, lines.Text())
	}
	cmd.Wait()
	t.Fatalf("the scenario ended:\n%s", &text)
	return nil, ""
}

// The cluster of a killed test binary serves the next one, put right.
func TestKilledBinary(t *testing.T) {
	t.Parallel()
	p := newProgram(t, pgtidetest.EnvClusters+"=1", pgtidetest.EnvLinger+"=3s")
	cmd, dir := p.hang(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	wantText(t, p.mustRun(t, "use"), "cluster "+dir)
}

// The servers of a killed keeper die with it, and its folders are removed by the
// next one.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	cmd, dir := p.hang(t)
	text, err := os.ReadFile(filepath.Join(p.dir, "keeper-1.lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("the keeper's lock does not name it: %v", err)
	}
	keeper, err := os.FindProcess(pid)
	if err == nil {
		err = keeper.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the servers' end", func() bool { return len(processesWith(t, dir+"/")) == 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("the folder is gone before anybody can have removed it: %v", err)
	}
	if out := p.mustRun(t, "use"); strings.Contains(out, dir) {
		t.Errorf("the dead cluster is used again:\n%s", out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder of the dead cluster: %v, want it gone", err)
	}
}

// Several test binaries at once share the clusters, and nothing is left of them.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	var all sync.WaitGroup
	dirs := make([]string, 4)
	for i := range dirs {
		all.Go(func() {
			out, err := p.run(t, "use")
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, out, p.log())
			}
			if found := regexp.MustCompile(`(?m)^cluster (.*)$`).FindStringSubmatch(out); found != nil {
				dirs[i] = found[1]
			}
		})
	}
	all.Wait()
	p.awaitEnd(t)
	for _, dir := range dirs {
		if dir == "" {
			t.Error("a scenario used no cluster")
			continue
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the cluster's folder: %v, want it gone", err)
		}
		if found := processesWith(t, dir); len(found) > 0 {
			t.Errorf("processes of the cluster are left:\n%s", strings.Join(found, "\n"))
		}
	}
	if left := p.records(t); len(left) > 0 {
		t.Errorf("records of clusters are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "keeper-1.sock")); !os.IsNotExist(err) {
		t.Errorf("the keeper's socket: %v, want it gone", err)
	}
}

// The database of a failed test can be looked into with the line that is printed.
func TestFailureIsKept(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	out, err := p.run(t, "fail", pgtidetest.EnvKeep+"=5s")
	if err == nil {
		t.Fatal("the scenario passed, want it to fail")
	}
	wantText(t, out, "is kept for 5s", "main_test.go:", "node1 (primary): write", "insert into message values ($1)", "INSERT 0 1")
	found := regexp.MustCompile(`psql '(.*)'`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no psql line:\n%s", out)
	}
	conn, err := pgx.Connect(t.Context(), found[1])
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log())
	}
	defer conn.Close(context.Background())
	var id string
	if err := conn.QueryRow(t.Context(), "select id from message").Scan(&id); err != nil || id != "evidence" {
		t.Errorf("the kept database shows %q, %v", id, err)
	}
	// Other tests leave it alone.
	p.mustRun(t, "use")
	if err := conn.QueryRow(t.Context(), "select id from message").Scan(&id); err != nil {
		t.Errorf("after another test: %v", err)
	}
}
