package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

const (
	defaultDelay = 3000 * time.Millisecond
	maxDelay     = math.MaxInt32 * time.Millisecond // of PostgreSQL
)

func (l *labCommand) newDelay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delay [delay] [node...]",
		Short: "make replicas apply each commit late",
		Long: `Delay makes replicas apply each commit that long after the primary made it: a
number of milliseconds, or a duration such as 500ms or 1.5s, and 3000 ms if none
is given. 0 ends the delay. Without nodes it is all replicas. What a replica has
received and holds back already is delayed too. "pgtide lab lag" shows the effect.`,
		Example: `  pgtide lab delay              # all replicas, 3 s
  pgtide lab delay 500          # all replicas, 500 ms
  pgtide lab delay 1.5s node2   # node2 alone
  pgtide lab delay 0            # no delay any more`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, names, err := splitDelay(args)
			if err != nil {
				return misuse(cmd, "%w", err)
			}
			return l.with(cmd, func(ctx context.Context, c *lab.Cluster) error {
				nodes, err := l.pickNodes(c, names)
				if err != nil {
					return err
				}
				return l.onEach(nodes, func(n *lab.Node) (string, error) {
					said := fmt.Sprintf("delayed by %s", d)
					if d == 0 {
						said = "not delayed"
					}
					return said, n.SetApplyDelay(ctx, d)
				})
			})
		},
	}
	addTimeout(cmd)
	return cmd
}

// splitDelay tells the delay from the nodes' names, which all begin with a letter.
func splitDelay(args []string) (d time.Duration, names []string, err error) {
	d = defaultDelay
	given := false
	for _, arg := range args {
		if first, _ := utf8.DecodeRuneInString(arg); unicode.IsLetter(first) {
			names = append(names, arg)
			continue
		}
		if given {
			return 0, nil, fmt.Errorf("%q is a second delay: give one, and then nodes", arg)
		}
		given = true
		if d, err = parseDelay(arg); err != nil {
			return 0, nil, err
		}
	}
	return d, names, nil
}

// parseDelay reads milliseconds, or a duration of whole milliseconds.
func parseDelay(text string) (time.Duration, error) {
	var d time.Duration
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms <= math.MaxInt32 && ms >= 0 {
		d = time.Duration(ms) * time.Millisecond
	} else if d, err = time.ParseDuration(text); err != nil || d < 0 || d > maxDelay {
		return 0, fmt.Errorf("%q is not a delay: give milliseconds, such as 500, or a duration, such as 1.5s, from 0 to %d ms", text, math.MaxInt32)
	}
	if d != d.Truncate(time.Millisecond) {
		return 0, fmt.Errorf("%q is not a delay: PostgreSQL counts whole milliseconds", text)
	}
	return d, nil
}
