package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

func (l *labCommand) newEnv() *cobra.Command {
	var asJSON, super bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "connection URLs as environment variables",
		Long: `Env prints lines for a shell to evaluate:

  PGTIDE_DSN           the primary and its replicas in one URL, for pgtide.Options.DSN
  PGTIDE_PRIMARY_DSN   the present primary
  PGTIDE_NODE1_DSN     and so on: each node, PGTIDE_SUBSCRIBER1_DSN too
  PGTIDE_SUPER_DSN     the superuser on the present primary, with --super only

They connect as the application's role and contain its password if the cluster
was made with --password.`,
		Example: `  eval "$(pgtide lab env)"
  psql "$PGTIDE_PRIMARY_DSN"
  pgtide lab env --json | jq -r .PGTIDE_DSN`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.with(cmd, func(_ context.Context, c *lab.Cluster) error {
				vars := environment(c, super)
				if asJSON {
					object := make(map[string]string, len(vars))
					for _, v := range vars {
						object[v.name] = v.value
					}
					return l.printJSON(object)
				}
				for _, v := range vars {
					fmt.Fprintf(l.out, "export %s=%s\n", v.name, shellQuote(v.value))
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&super, "super", false, "also the superuser's URL")
	return cmd
}

// variable is one environment variable.
type variable struct{ name, value string }

// environment lists the variables that describe the cluster to a program.
func environment(c *lab.Cluster, super bool) []variable {
	primary := c.Primary()
	vars := []variable{{"PGTIDE_DSN", c.DSN()}}
	if primary != nil {
		vars = append(vars, variable{"PGTIDE_PRIMARY_DSN", primary.DSN()})
	}
	for _, n := range c.Nodes() {
		vars = append(vars, variable{"PGTIDE_" + strings.ToUpper(n.Name()) + "_DSN", n.DSN()})
	}
	if super && primary != nil {
		vars = append(vars, variable{"PGTIDE_SUPER_DSN", primary.SuperDSN()})
	}
	return vars
}
