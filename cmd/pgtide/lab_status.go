package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

// statusJSON is what lab status --json prints.
type statusJSON struct {
	Cluster string `json:"cluster,omitempty"` // its name, if it was asked for by name
	lab.Status
}

func (l *labCommand) newStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "what each server is and does",
		Long: `Status asks every server at the same time. BEHIND is how much of the primary's
WAL a node has not applied; a subscriber's LSN is one in that WAL. One that does
not answer within two seconds is shown as such, which is no error.`,
		Example: `  pgtide lab status
  pgtide lab status --json | jq -r '.nodes[] | select(.role == "replica").name'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.with(cmd, func(ctx context.Context, c *lab.Cluster) error {
				if !asJSON {
					return l.printStatus(ctx, c)
				}
				status, err := c.Status(ctx)
				if err != nil {
					return err
				}
				out := statusJSON{Status: status}
				if l.dir == "" {
					out.Cluster = l.cluster
				}
				return l.printJSON(out)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// printStatus prints the cluster as a table.
func (l *labCommand) printStatus(ctx context.Context, c *lab.Cluster) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("PostgreSQL %s in %s", status.Version, status.Dir)
	if status.Sync != lab.SyncOff {
		title += fmt.Sprintf(", synchronous (%s)", status.Sync)
	}
	if l.dir == "" {
		title = l.called() + ": " + title
	}
	primary := "" // of several, the one that counts
	if n := c.Primary(); n != nil {
		primary = n.Name()
	}
	fmt.Fprintf(l.out, "%s\n\n%s", title, statusTable(status, primary))
	return nil
}

func statusTable(status lab.Status, primary string) string {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tROLE\tSTATE\tPORT\tTIMELINE\tLSN\tBEHIND\tAPPLY DELAY\tNOTES")
	for _, n := range status.Nodes {
		timeline, lsn := "-", "-"
		if n.Timeline != 0 {
			timeline = strconv.Itoa(int(n.Timeline))
		}
		if n.Position != "" {
			lsn = n.Position
		}
		behind, delay := "-", "-"
		if n.Role == lab.RoleReplica || n.Role == lab.RoleSubscriber {
			behind = bytesText(n.BytesBehind)
			if n.ApplyDelayMS != 0 {
				delay = (time.Duration(n.ApplyDelayMS) * time.Millisecond).String()
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n",
			n.Name, n.Role, n.State, n.Port, timeline, lsn, behind, delay, notes(n, primary, status.Version))
	}
	w.Flush() // a Builder takes everything
	return trailingSpaces.ReplaceAllString(table.String(), "\n")
}

// trailingSpaces are what the table has in place of the last column.
var trailingSpaces = regexp.MustCompile(` +\n`)

// notes are what is out of the ordinary about a node.
func notes(n lab.NodeStatus, primary, version string) string {
	var notes []string
	answered := n.State == lab.Running && n.Error == ""
	if n.Version != version {
		notes = append(notes, "PostgreSQL "+n.Version)
	}
	switch {
	case n.Awaited && n.SyncState == "sync":
		notes = append(notes, "synchronous")
	case n.Awaited:
		notes = append(notes, "synchronous: commits wait for it")
	case n.SyncState != "" && n.SyncState != "async": // made so by a setting
		notes = append(notes, n.SyncState)
	}
	if n.Role == lab.RoleSubscriber && n.Source != primary {
		notes = append(notes, "reads from "+n.Source+", not the primary: resubscribe it")
	}
	if n.Cut {
		notes = append(notes, "link cut")
	}
	if n.Paused {
		notes = append(notes, "replay paused")
	}
	enabled := !n.Cut && (n.Role == lab.RoleReplica || n.Role == lab.RoleSubscriber && !n.Paused)
	if answered && enabled && !n.Streaming {
		notes = append(notes, "not streaming")
	}
	if n.Role == lab.RolePrimary && n.Name != primary {
		notes = append(notes, "overtaken by a promotion")
	}
	if n.Error != "" {
		notes = append(notes, "does not answer: "+firstLine(n.Error))
	}
	return strings.Join(notes, ", ")
}

// bytesText is a number of bytes to be read by people; less than 0 is unknown.
func bytesText(n int64) string {
	switch {
	case n < 0:
		return "?"
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
