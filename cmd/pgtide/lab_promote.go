package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

func (l *labCommand) newPromote() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote node",
		Short: "make a replica the primary",
		Long: `Promote makes a replica the primary and lets the other replicas follow it. The
old primary is left as it is: if it still runs, two servers take writes. Kill or
stop it before, or rejoin it after. Subscribers stay with it until lab resubscribe.`,
		Example: `  pgtide lab kill node1
  pgtide lab promote node2
  pgtide lab rejoin node1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return misuse(cmd, "promote one node, for example: %s", l.again("promote node2"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return l.with(cmd, func(ctx context.Context, c *lab.Cluster) error {
				began := time.Now()
				if err := c.Promote(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(l.out, "%s is the primary, after %d ms\n", args[0], time.Since(began).Milliseconds())
				return l.warnOldPrimaries(ctx, c, args[0])
			})
		},
	}
	addTimeout(cmd)
	return cmd
}

// warnOldPrimaries says what a promotion leaves to do.
func (l *labCommand) warnOldPrimaries(ctx context.Context, c *lab.Cluster, promoted string) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	for _, n := range status.Nodes {
		if n.Role == lab.RoleSubscriber && n.Source != promoted {
			l.hint("%s still reads from %s: %s", n.Name, n.Source, l.again("resubscribe "+n.Name))
		}
		if n.Role != lab.RolePrimary || n.Name == promoted {
			continue
		}
		if n.State != lab.Stopped {
			l.progress("%s is a primary too, a split brain", n.Name)
		}
		l.hint("%s makes %s a replica again", l.again("rejoin "+n.Name), n.Name)
	}
	return nil
}
