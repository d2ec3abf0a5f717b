package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/demo"
)

// newDemoCommand returns the command that tells the demo's story.
func newDemoCommand(s streams) *cobra.Command {
	var (
		o      demo.Options
		once   bool
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "show on a real cluster what replicas do, and what pgtide makes of it",
		Long: `Start a primary and two replicas on this machine, one of them late, put a small
HTTP service on them and tell a story that ends with the death of the primary.
Each line is an expectation and what was measured. Then the service goes on
until Ctrl-C, and everything is removed.

The exit code is 0 only if every expectation held.`,
		Example: `  pgtide demo                   # the story, then the service on ` + demo.DefaultListen + `
  pgtide demo --once            # the story alone
  pgtide demo --once --json     # the same as one JSON object`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Out = s.out
			if asJSON {
				o.Out = s.err
			}
			return runDemo(cmd, s, o, once, asJSON)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "end after the story")
	f.BoolVar(&asJSON, "json", false, "print the result as one JSON object, and the story to standard error")
	f.StringVar(&o.Listen, "listen", demo.DefaultListen, "address of the service; the next free port if this one is taken")
	f.IntVar(&o.Clients, "clients", demo.DefaultClients, "how many HTTP clients there are at once")
	f.IntVar(&o.Rounds, "rounds", demo.DefaultRounds, "how often each of them writes and reads")
	f.DurationVar(&o.Delay, "delay", demo.DefaultDelay, "how late the slow replica is")
	return cmd
}

func runDemo(cmd *cobra.Command, s streams, o demo.Options, once, asJSON bool) (err error) {
	ctx := cmd.Context()
	d, err := demo.Start(ctx, o)
	if errors.Is(err, demo.ErrOptions) {
		return misuse(cmd, "%w", err)
	}
	if err != nil {
		return interrupted(ctx.Err(), err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	report, err := d.Tell(ctx)
	if err != nil {
		return interrupted(ctx.Err(), err)
	}
	if asJSON {
		if err := s.printJSON(report); err != nil {
			return err
		}
	}
	if !once {
		if err := d.Serve(ctx); err != nil {
			return err
		}
	}
	if !report.OK {
		return fmt.Errorf("%d of %d expectations did not hold", len(report.Failed()), len(report.Steps))
	}
	return nil
}

// interrupted replaces the many errors that an interrupt causes.
func interrupted(cause, err error) error {
	if cause != nil {
		return errors.New("interrupted")
	}
	return err
}
