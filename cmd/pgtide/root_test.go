package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestVersion(t *testing.T) {
	got := pgtide(t, "--version")
	if got.code != 0 || !strings.HasPrefix(got.out, "pgtide ") || !strings.Contains(got.out, "go1.") {
		t.Errorf("got %+v, want the version of pgtide and Go", got)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"lab"}, {"lab", "--help"}, {"help", "lab"}, {"help", "lab", "up"}} {
		got := pgtide(t, args...)
		if got.code != 0 || !strings.Contains(got.out, "Usage:") || !strings.Contains(got.out, "Examples:") || got.err != "" {
			t.Errorf("pgtide %s: got %+v, want help with examples on standard output", strings.Join(args, " "), got)
		}
	}
}

// Every command that does something says how it is used.
func TestEveryCommandIsDescribed(t *testing.T) {
	checked := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if cmd.Name() == "help" {
			return
		}
		checked++
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: got short %q and example %q, want both", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		if strings.ToLower(cmd.Short[:1]) != cmd.Short[:1] && !strings.HasPrefix(cmd.Short, "PostgreSQL") || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short description %q: want lower case and no full stop", cmd.CommandPath(), cmd.Short)
		}
	}
	walk(newRoot(streams{}))
	if checked < 20 {
		t.Errorf("got %d commands, want the lab's 18 and those that hold them", checked)
	}
}
