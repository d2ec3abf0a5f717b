package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandEnv turns the test binary into the command, so that tests can start it
// as a process, which some things need: signals and exit codes.
const commandEnv = "PGTIDE_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// runLimit is far beyond what any command line of the tests takes.
const runLimit = time.Minute

// result is what one command line did.
type result struct {
	out, err string
	code     int
}

// pgtide runs a command line in this process.
func pgtide(t *testing.T, args ...string) result {
	t.Helper()
	// Cleanups run commands too, when the test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	s := streams{in: strings.NewReader(""), out: &out, err: &errs}
	code := exitCode(s, run(ctx, s, args))
	return result{out.String(), errs.String(), code}
}

// process prepares a command line as a process of its own.
func process(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), commandEnv+"=1")
	return cmd
}

func TestProcessExitCodes(t *testing.T) {
	for _, test := range []struct {
		args []string
		want int
	}{
		{[]string{"--version"}, 0},
		{[]string{"lab", "status", "--dir", t.TempDir()}, exitFailure},
		{[]string{"lab", "--no-such-option"}, exitUsage},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), runLimit)
		defer cancel()
		cmd := process(ctx, t, test.args...)
		output, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != test.want {
			t.Errorf("pgtide %s: got exit code %d, want %d: %s", strings.Join(test.args, " "), got, test.want, output)
		}
	}
}
