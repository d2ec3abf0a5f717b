package pgtideriver

import (
	"cmp"
	"fmt"
	"time"
)

// OnBehind is what to do with a job while no replica has what it must see.
type OnBehind int

const (
	// Wait has the attempt wait for a replica, at most [Options.WaitBudget], while
	// it holds its place among the workers. After that its reads go to the
	// primary.
	Wait OnBehind = iota
	// Snooze waits as [Wait] does, and then has River work the job later, after
	// [Options.SnoozeFor]; a snooze is not counted as an attempt. A job is snoozed
	// [Options.MaxSnoozes] times at most; after that its reads go to the primary.
	Snooze
	// Primary does not wait: reads that no replica can serve within
	// [pgtide.Options.WaitBudget] go to the primary.
	Primary
)

// Defaults of [Options].
const (
	DefaultWaitBudget = time.Second
	DefaultSnoozeFor  = 5 * time.Second
	DefaultMaxSnoozes = 10
)

// Options configure a [Middleware]. The zero value is useful.
type Options struct {
	// OnBehind is what to do while no replica has what a job must see. Defaults to
	// [Wait].
	OnBehind OnBehind
	// WaitBudget is how long an attempt waits for a replica under [Wait] and
	// [Snooze]; it counts towards the job's timeout. Defaults to [DefaultWaitBudget]; negative never waits, so that only
	// a replica counts that is known to be there already.
	WaitBudget time.Duration
	// SnoozeFor is how much later [Snooze] has a job worked. Defaults to
	// [DefaultSnoozeFor].
	SnoozeFor time.Duration
	// MaxSnoozes is how often [Snooze] does so to one job. Defaults to
	// [DefaultMaxSnoozes].
	MaxSnoozes int

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.WaitBudget = cmp.Or(o.WaitBudget, DefaultWaitBudget)
	o.SnoozeFor = cmp.Or(o.SnoozeFor, DefaultSnoozeFor)
	o.MaxSnoozes = cmp.Or(o.MaxSnoozes, DefaultMaxSnoozes)
	return o
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	switch {
	case o.OnBehind < Wait || o.OnBehind > Primary:
		return fmt.Errorf("options: OnBehind %d is none of Wait, Snooze and Primary", o.OnBehind)
	case o.SnoozeFor < 0:
		return fmt.Errorf("options: SnoozeFor %v is negative", o.SnoozeFor)
	case o.MaxSnoozes < 0:
		return fmt.Errorf("options: MaxSnoozes %d is negative", o.MaxSnoozes)
	}
	return nil
}
