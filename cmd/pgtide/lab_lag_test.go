package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLagInterrupted ends a measurement as people do, with Ctrl-C.
func TestLagInterrupted(t *testing.T) {
	dir := filepath.Join(clusterParent(t), "cluster")
	s := &session{T: t, flags: []string{"--dir", dir}}
	s.downAfterwards()
	s.must("up", "--replicas", "1")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 0, "node2: apply delay 0s"},
		{[]string{"--count", "1000000"}, exitFailure, "interrupt"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), runLimit)
		defer cancel()
		cmd := process(ctx, t, append([]string{"lab", "lag", "--dir", dir, "--interval", "20ms"}, test.args...)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.HasPrefix(lines.Text(), "3 ") {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // the exit code tells
		if got := cmd.ProcessState.ExitCode(); got != test.code {
			t.Errorf("lag %v: got exit code %d, want %d", test.args, got, test.code)
		}
		if all := said.String() + errs.String(); !strings.Contains(all, test.want) || !strings.Contains(all, "node2: apply delay") {
			t.Errorf("lag %v: got %q, want a summary and %q", test.args, all, test.want)
		}
	}
	dsn := s.env()["PGTIDE_PRIMARY_DSN"]
	if got := s.ask(dsn, "select count(*)::text from pg_class where relname like 'pgtide_lag_%'"); got != "0" {
		t.Errorf("got %s tables left behind, want none", got)
	}
}
