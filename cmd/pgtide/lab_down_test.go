package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgtide/pgtide/lab"
)

func TestDownLeavesForeignFolder(t *testing.T) {
	dir := clusterParent(t)
	file := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := &session{T: t, flags: []string{"--dir", dir}}
	s.refused([]string{"not a lab folder", "pgtide lab up --dir"}, "down", "--delete")
	s.refused([]string{"not a lab folder", "empty or missing"}, "up")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v in the folder, want thesis.txt alone", entries, err)
	}
}

func TestDownDeletesOnlyItsOwn(t *testing.T) {
	dir := filepath.Join(clusterParent(t), "cluster")
	s := &session{T: t, flags: []string{"--dir", dir}}
	s.downAfterwards()
	s.must("up", "--replicas", "1")
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("freeze", "node2") // which down has to end too
	got := s.run("down", "--delete")
	if got.code != 0 || !strings.Contains(got.err, "thesis.txt") {
		t.Errorf("got %+v, want it to name what stays", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "thesis.txt" {
		t.Errorf("got %v, %v left, want thesis.txt alone", entries, err)
	}
	if err := os.Remove(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Fatal(err)
	}
	s.must("up", "--replicas", "0")
	s.must("down", "--delete")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: got %v, want it gone", err)
	}
}

// Servers that a living program started are that program's to stop.
func TestDownLeavesAnOwnersServers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	c, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &session{T: t, flags: []string{"--dir", c.Dir()}}
	s.refused([]string{"belongs to process", "end that process"}, "down", "--delete")
	if got := s.run("up"); got.code != 0 || !strings.Contains(got.err, "belongs to process") {
		t.Errorf("up: got %+v, want it to say whose it is", got)
	}
	s.must("delay", "100ms", "node2")
	if n := s.status()["node2"]; n.State != lab.Running || n.ApplyDelayMS != 100 {
		t.Errorf("got %+v, want node2 running with the delay", n)
	}
}
