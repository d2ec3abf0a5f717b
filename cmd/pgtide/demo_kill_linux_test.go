package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A demo that is killed, and so can clean up nothing, leaves no server behind.
func TestDemoKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	d := startDemo(ctx, t, smallDemo()...)
	t.Cleanup(func() { os.RemoveAll(d.dir) })
	d.until(`the service listens on`)
	// Of each server the postmaster and what every server has under it.
	if got := processesIn(t, d.dir); len(got) < 3*4 {
		t.Fatalf("got processes %v in %s, want those of three servers", got, d.dir)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
	// Nobody tells when the processes of somebody else have ended.
	for len(processesIn(t, d.dir)) > 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("processes %v of the killed demo still run", processesIn(t, d.dir))
		}
	}
}

// processesIn returns the processes at work in a folder: servers are in their
// data folder, each of their processes.
func processesIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		// Processes end while we look.
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir+"/") {
			found = append(found, filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}
