package patroni_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingIsLeftBehind kills a test process that has a cluster, and looks for
// what remains of it.
func TestNothingIsLeftBehind(t *testing.T) {
	// Not beside the others: it has a process of its own, which finds free ports
	// without knowing of theirs.
	const child, folder = "PGTIDE_PATRONI_CHILD", "folder "
	if os.Getenv(child) != "" {
		fmt.Println(folder + startCluster(t, 1).dir)
		select {} // until it is killed
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable, "-test.run", "^"+t.Name()+"$", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), child+"=yes")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir, said := "", []string{}
	for lines := bufio.NewScanner(output); dir == "" && lines.Scan(); {
		said = append(said, lines.Text())
		dir, _ = strings.CutPrefix(lines.Text(), folder)
		if dir == lines.Text() {
			dir = ""
		}
	}
	alive := len(processesIn(dir))
	if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
		t.Error(err)
	}
	if dir == "" || alive < 5 {
		t.Fatalf("the test process had %d processes in %q, want etcd, Patroni and PostgreSQL; it said:\n%s", alive, dir, strings.Join(said, "\n"))
	}
	until(t, "the end of what it had", func() error {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("%s is there", dir)
		}
		if pids := processesIn(dir); len(pids) > 0 {
			return fmt.Errorf("processes %v are alive", pids)
		}
		return nil
	})
}

// ignoreExit drops how a process ended that was killed.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// processesIn are those whose working folder is dir or below it.
func processesIn(dir string) []string {
	if dir == "" {
		return nil
	}
	folders, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var all []string
	for _, link := range folders {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			all = append(all, filepath.Base(filepath.Dir(link)))
		}
	}
	return all
}
