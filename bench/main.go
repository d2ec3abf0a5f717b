// Bench measures pgtide against what it replaces, in one run and as ratios:
// absolute figures depend on the machine, ratios of interleaved runs hardly do.
//
//	go run . -suite balance|core|failover|http|sql|testkit [-json]
//
// It starts its own clusters on loopback and is bounded in time. Calls made one
// at a time depend on which processors the client and the server process share;
// where there are few, compare them on one alone: taskset -c 0 go run .
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// limit bounds a whole run.
const limit = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the run took longer than %v", limit))
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// suites are the sets of measurements by name.
var suites = map[string]func(context.Context, *report) error{
	"balance":  balanceSuite,
	"core":     core,
	"failover": failoverSuite,
	"http":     httpSuite,
	"sql":      sqlSuite,
	"testkit":  testkitSuite,
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("suite", "core", "what to measure: "+strings.Join(names(), ", "))
	asJSON := flags.Bool("json", false, "print one JSON object")
	rounds := flags.Int("rounds", 60, "interleaved rounds of each comparison, of which the median counts; with failover and balance, how often at most")
	if err := flags.Parse(args); err != nil {
		return err
	}
	suite, ok := suites[*name]
	if !ok {
		return fmt.Errorf("unknown suite %q: there are %s", *name, strings.Join(names(), ", "))
	}
	if *rounds < 1 {
		return fmt.Errorf("%d rounds: give at least one", *rounds)
	}
	r := &report{
		Suite: *name, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		rounds: *rounds, progress: stderr,
	}
	if err := suite(ctx, r); err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.print(stdout)
}

func names() []string {
	var out []string
	for name := range suites {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// report is the outcome of a run.
type report struct {
	Suite    string   `json:"suite"`
	Postgres string   `json:"postgres"`
	Go       string   `json:"go"`
	System   string   `json:"system"`
	CPUs     int      `json:"cpus"`
	Results  []result `json:"results"`
	Peers    []peer   `json:"peers,omitempty"`

	rounds   int
	progress io.Writer
}

// result is one figure and what it may be.
type result struct {
	Name string `json:"name"`
	// Ours is pgtide's figure; Theirs that of Against in the same run, zero when
	// there is nothing to compare with.
	Ours    float64 `json:"ours"`
	Theirs  float64 `json:"theirs,omitempty"`
	Against string  `json:"against,omitempty"`
	Unit    string  `json:"unit"`
	// Ratio is the median of Ours/Theirs, round by round.
	Ratio float64 `json:"ratio,omitempty"`
	// Budget bounds Ratio where there is one, else Ours.
	Budget float64 `json:"budget"`
	OK     bool    `json:"ok"`
	// Shown marks a figure that has no budget.
	Shown bool `json:"shown,omitempty"`
}

func (r *report) add(s result) {
	judged := s.Ours
	if s.Theirs != 0 {
		judged = s.Ratio
	}
	s.OK = s.Shown || judged <= s.Budget
	r.Results = append(r.Results, s)
	fmt.Fprintf(r.progress, "%s: done\n", s.Name)
}

func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "suite %s, PostgreSQL %s, %s, %s, %d CPUs\n\n", r.Suite, r.Postgres, r.Go, r.System, r.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tpgtide\tbaseline\tunit\tratio\tbudget\t")
	for _, s := range r.Results {
		theirs, ratio, budget, verdict := "", "", fmt.Sprintf("%.4g", s.Budget), "ok"
		if s.Theirs != 0 {
			theirs, ratio = fmt.Sprintf("%.4g (%s)", s.Theirs, s.Against), fmt.Sprintf("%.3f", s.Ratio)
		}
		switch {
		case s.Shown:
			budget, verdict = "", ""
		case !s.OK:
			verdict = "OVER"
		}
		fmt.Fprintf(t, "%s\t%.4g\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Ours, theirs, s.Unit, ratio, budget, verdict)
	}
	if err := t.Flush(); err != nil || len(r.Peers) == 0 {
		return err
	}
	return printPeers(w, r.Peers)
}
