package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// newRoot returns the whole command tree, reading from and writing to s.
func newRoot(s streams) *cobra.Command {
	root := newGroup(&cobra.Command{
		Use:   "pgtide",
		Short: "PostgreSQL read replicas without stale reads: show, try and check it",
		Example: `  pgtide demo                   # what replicas do to reads, and what pgtide makes of it
  pgtide lab up                 # a primary and two replicas, on this machine
  pgtide lab delay 500ms        # the replicas apply half a second late
  pgtide lab lag --count 5      # how late they are, measured
  pgtide lab down --delete      # as if nothing had been`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(explainFlag)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newDemoCommand(s), newLabCommand(s), newClassifyCommand(s))
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [command]",
		Short: "describe a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(found, rest)
			}
			return found.Help()
		},
	})
	return root
}

// newGroup makes a command that only holds others: alone it prints its help.
func newGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args)
		}
		return cmd.Help()
	}
	return cmd
}

// version says what was built, with which Go.
func version() string {
	name := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		name = info.Main.Version
	}
	return fmt.Sprintf("pgtide %s, %s, %s/%s", name, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
