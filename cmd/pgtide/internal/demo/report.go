package demo

import (
	"fmt"
	"io"
	"time"
)

// Report is what the story came to.
type Report struct {
	// Postgres is the servers' version.
	Postgres string `json:"postgres"`
	Replicas int    `json:"replicas"`
	Steps    []Step `json:"steps"`
	// Naive and Pgtide count the reads of the clients.
	Naive  NaiveReads  `json:"naive"`
	Pgtide PgtideReads `json:"pgtide"`
	// PromoteToWriteMS is the time from the moment a replica was asked to
	// become the primary until a write through pgtide was accepted by it, the
	// server's own time included. In milliseconds.
	PromoteToWriteMS int64 `json:"promote_to_write_ms"`
	// OK says that all steps are.
	OK bool `json:"ok"`
}

// Step is an expectation of the story.
type Step struct {
	Name   string `json:"name"`
	Expect string `json:"expect"`
	Got    string `json:"got"`
	OK     bool   `json:"ok"`
}

// NaiveReads counts reads through the naive router.
type NaiveReads struct {
	Reads int `json:"reads"`
	// Stale reads did not show what their client had written before.
	Stale int `json:"stale"`
}

// PgtideReads counts reads through pgtide.
type PgtideReads struct {
	Reads        int `json:"reads"`
	Stale        int `json:"stale"`
	ReplicaReads int `json:"replica_reads"`
	PrimaryReads int `json:"primary_reads"`
}

// Failed returns the steps that did not go as expected.
func (r Report) Failed() []Step {
	var failed []Step
	for _, s := range r.Steps {
		if !s.OK {
			failed = append(failed, s)
		}
	}
	return failed
}

// story is a report while it is told.
type story struct {
	out    io.Writer
	report Report
}

func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *story) title(format string, args ...any) {
	s.say("\n"+format, args...)
}

// expect tells an expectation and what came of it.
func (s *story) expect(name, expect string, ok bool, got string, args ...any) {
	step := Step{Name: name, Expect: expect, Got: fmt.Sprintf(got, args...), OK: ok}
	s.report.Steps = append(s.report.Steps, step)
	mark := "✓"
	if !ok {
		mark = "✗ expected:"
	}
	s.say("  %s %s\n      %s", mark, step.Expect, step.Got)
}

func (s *story) end() {
	failed := s.report.Failed()
	s.report.OK = len(failed) == 0
	s.title("%d of %d expectations held", len(s.report.Steps)-len(failed), len(s.report.Steps))
	for _, step := range failed {
		s.say("  ✗ %s: expected that %s, but got: %s", step.Name, step.Expect, step.Got)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3g s", d.Seconds()) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func percent(part, whole int) string {
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(max(whole, 1)))
}
