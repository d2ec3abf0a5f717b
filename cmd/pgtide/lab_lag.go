package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/lag"
	"github.com/pgtide/pgtide/lab"
)

// minInterval keeps a typing mistake from becoming a load test.
const minInterval = 10 * time.Millisecond

// lagFlags are what lab lag may be told.
type lagFlags struct {
	count    int
	interval time.Duration
	patience time.Duration
	json     bool
}

func (l *labCommand) newLag() *cobra.Command {
	var f lagFlags
	cmd := &cobra.Command{
		Use:   "lag",
		Short: "insert rows and show when each replica has them",
		Long: `Lag inserts a row on the primary each second and asks every replica for it until
it is there. The times run from the insert; they are exact to about 5 ms and never
shorter than the replica's apply delay, which so is proven real. A row that a
replica does not show within --patience beyond its apply delay is given up.
Ctrl-C, or --count rows, end it with a summary; the table of the rows is dropped.`,
		Example: `  pgtide lab delay 3000 node2
  pgtide lab lag --count 5
  pgtide lab lag --interval 100ms --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.count < 0:
				return misuse(cmd, "--count takes a whole number from 0 on, not %d", f.count)
			case f.interval < minInterval:
				return misuse(cmd, "--interval takes a duration from %s on, not %s", minInterval, f.interval)
			case f.patience <= 0:
				return misuse(cmd, "--patience takes a duration above 0, not %s", f.patience)
			}
			return l.with(cmd, func(ctx context.Context, c *lab.Cluster) error {
				return l.lag(ctx, c, f)
			})
		},
	}
	cmd.Flags().IntVarP(&f.count, "count", "n", 0, "`number` of rows; 0 means until Ctrl-C")
	cmd.Flags().DurationVar(&f.interval, "interval", lag.DefaultInterval, "`time` between two rows")
	cmd.Flags().DurationVar(&f.patience, "patience", lag.DefaultPatience, "how `long` to look for a row beyond the apply delay")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per row")
	return cmd
}

func (l *labCommand) lag(ctx context.Context, c *lab.Cluster, f lagFlags) error {
	primary := c.Primary()
	if primary == nil {
		return errors.New("the cluster has no primary: promote a replica")
	}
	replicas, err := l.pickNodes(c, nil)
	if err != nil {
		return err
	}
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	o := lag.Options{
		Primary: lag.Node{Name: primary.Name(), DSN: primary.DSN()},
		Rows:    f.count, Interval: f.interval, Patience: f.patience,
	}
	delays := make([]time.Duration, len(replicas))
	for i, n := range replicas {
		o.Replicas = append(o.Replicas, lag.Node{Name: n.Name(), DSN: n.DSN()})
		delays[i] = applyDelay(status, n.Name())
	}
	o.Patience += slices.Max(delays)
	for _, s := range status.Nodes {
		switch {
		case s.State == lab.Running:
		case s.Name != primary.Name():
			l.progress("%s is %s", s.Name, s.State)
		case s.State == lab.Stopped:
			return withHint(fmt.Errorf("the primary %s is stopped", s.Name), "%s, or promote a replica", l.again("start "+s.Name))
		default:
			return withHint(fmt.Errorf("the primary %s is %s", s.Name, s.State), "%s", l.again("thaw "+s.Name))
		}
	}
	l.progress("inserting a row on %s every %s", primary.Name(), f.interval)

	t := &lagTable{out: l.out, nodes: o.Replicas, delays: delays, patience: o.Patience, seen: make([][]time.Duration, len(replicas))}
	report := t.row
	if f.json {
		report = t.rowJSON
	} else {
		t.header()
	}
	err = lag.Measure(ctx, o, report)
	if !f.json {
		t.summary()
	}
	if ctx.Err() == nil {
		return err
	}
	if f.count > 0 {
		return fmt.Errorf("interrupted before all %d rows were seen", f.count)
	}
	return nil // Ctrl-C is how it is meant to end
}

func applyDelay(status lab.Status, node string) time.Duration {
	for _, n := range status.Nodes {
		if n.Name == node {
			return time.Duration(n.ApplyDelayMS) * time.Millisecond
		}
	}
	return 0
}

// lagTable prints rows as they come in.
type lagTable struct {
	out      io.Writer
	nodes    []lag.Node
	delays   []time.Duration // by node, when the measuring began
	patience time.Duration
	rows     int
	seen     [][]time.Duration // by node
}

// width is that of a node's column, whose longest usual text is "after 12.345s".
func (t *lagTable) width() int {
	width := len("after 12.345s") + 2
	for _, n := range t.nodes {
		width = max(width, len(n.Name)+2)
	}
	return width
}

func (t *lagTable) header() {
	t.line("ROW", "COMMITTED", func(i int) string { return t.nodes[i].Name })
}

func (t *lagTable) row(r lag.Row) {
	t.count(r)
	t.line(strconv.Itoa(r.Number), r.Committed.Format("15:04:05.000"), func(i int) string {
		switch s := r.Seen[i]; {
		case s.Err == nil:
			return "after " + seconds(s.After)
		case s.Err == lag.ErrNotSeen:
			return "not in " + t.patience.String()
		}
		return "no answer"
	})
}

func (t *lagTable) line(number, committed string, cell func(int) string) {
	line := fmt.Sprintf("%-5s %-13s", number, committed)
	for i := range t.nodes {
		if i == len(t.nodes)-1 {
			line += " " + cell(i)
			break
		}
		line += fmt.Sprintf(" %-*s", t.width(), cell(i))
	}
	fmt.Fprintln(t.out, line)
}

func (t *lagTable) count(r lag.Row) {
	t.rows++
	for i, s := range r.Seen {
		if s.Err == nil {
			t.seen[i] = append(t.seen[i], s.After)
		}
	}
}

// summary compares what was measured with what was set.
func (t *lagTable) summary() {
	if t.rows == 0 {
		return
	}
	fmt.Fprintln(t.out)
	for i, n := range t.nodes {
		seen := slices.Sorted(slices.Values(t.seen[i]))
		line := fmt.Sprintf("%s: apply delay %s, %d of %d rows seen", n.Name, t.delays[i], len(seen), t.rows)
		if len(seen) > 0 {
			line += fmt.Sprintf(" after %s to %s, median %s", seconds(seen[0]), seconds(seen[len(seen)-1]), seconds(seen[len(seen)/2]))
		}
		fmt.Fprintln(t.out, line)
	}
}

// rowJSON prints the row as one line.
func (t *lagTable) rowJSON(r lag.Row) {
	type sight struct {
		AfterMS *float64 `json:"after_ms"` // null if it was not seen
		Error   string   `json:"error,omitempty"`
	}
	object := struct {
		Row         int              `json:"row"`
		CommittedAt time.Time        `json:"committed_at"`
		Replicas    map[string]sight `json:"replicas"`
	}{r.Number, r.Committed.UTC(), make(map[string]sight)}
	for i, s := range r.Seen {
		if s.Err != nil {
			object.Replicas[t.nodes[i].Name] = sight{Error: firstLine(s.Err.Error())}
			continue
		}
		ms := float64(s.After.Microseconds()) / 1000
		object.Replicas[t.nodes[i].Name] = sight{AfterMS: &ms}
	}
	json.NewEncoder(t.out).Encode(object)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }
