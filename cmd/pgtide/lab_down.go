package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/clusters"
	"github.com/pgtide/pgtide/lab"
)

func (l *labCommand) newDown() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "stop a cluster",
		Long: `Down stops all servers of the cluster, frozen ones too. Its data stays, and
"pgtide lab up" starts it again. With --delete the data goes too: exactly the
files that the lab has made.`,
		Example: `  pgtide lab down
  pgtide lab down --cluster big --delete`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := l.open(cmd.Context())
			if err != nil {
				return err
			}
			status, err := c.Status(cmd.Context())
			if err != nil {
				return errors.Join(err, c.Detach())
			}
			// The lab leaves another living process's servers alone, without a word.
			// A cluster nobody owned became ours by opening it, without its servers.
			if !status.Detached && (runs(status) || status.OwnerPID != os.Getpid()) {
				err := fmt.Errorf("%w: %s belongs to process %d", lab.ErrFolderInUse, l.called(), status.OwnerPID)
				return errors.Join(withHint(err, "end that process: its servers end with it"), c.Detach())
			}
			return l.down(c, status, remove)
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "delete the cluster's data and folder too")
	return cmd
}

func (l *labCommand) down(c *lab.Cluster, status lab.Status, remove bool) error {
	names := nodeNames(c.Nodes())
	stopped, deleted := "was not running", "was not running and is deleted"
	if runs(status) {
		stopped, deleted = "is stopped", "is stopped and deleted"
		l.progress("stopping %s ...", names)
	}
	if err := c.Close(); err != nil {
		return err
	}
	if !remove {
		fmt.Fprintf(l.out, "%s %s, its data is kept\n", l.called(), stopped)
		l.hint("%s starts it again, %s deletes it", l.again("up"), l.again("down --delete"))
		return nil
	}
	left, err := clusters.Remove(c.Dir(), strings.Split(names, ", "))
	if err != nil {
		return err
	}
	fmt.Fprintf(l.out, "%s %s\n", l.called(), deleted)
	if len(left) > 0 {
		l.progress("%s stays: the lab did not make %s in it", c.Dir(), strings.Join(left, ", "))
	}
	return nil
}
