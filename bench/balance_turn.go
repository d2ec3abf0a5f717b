package main

import (
	"context"
	"fmt"
	"sort"
	"time"
)

const (
	// steady is how long all is well before anything changes, and how long calls
	// are watched after each change.
	steady      = 1500 * time.Millisecond
	watchSlow   = 3 * time.Second
	watchReturn = 15 * time.Second
	// window is the time over which a share is taken.
	window = 500 * time.Millisecond
)

// turns measures how soon a replica that becomes slow is spared, and how soon
// one that is well again has its share back.
func (b *balance) turns(ctx context.Context) error {
	for _, p := range policies[:3] { // the last one does neither
		if err := b.turn(ctx, b.openers(p)[0], p.eject >= 0); err != nil {
			return err
		}
	}
	return nil
}

func (b *balance) turn(ctx context.Context, o opener, judged bool) error {
	const goroutines = 8
	b.well()
	r, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	if _, err := load(ctx, r, goroutines, steady); err != nil {
		return err
	}
	fair := 1 / float64(len(b.before))
	slowAt := time.Now()
	b.before[0].delay(slowTime)
	calls, err := load(ctx, r, goroutines, watchSlow)
	if err != nil {
		return err
	}
	port := b.cluster.Replicas()[0].Port()
	avoided := first(calls, port, slowAt, func(share float64) bool { return share < fair/10 })
	b.before[0].delay(wellTime)
	wellAt := time.Now()
	if calls, err = load(ctx, r, goroutines, watchReturn); err != nil {
		return err
	}
	back := first(calls, port, wellAt, func(share float64) bool { return share > 0.8*fair })
	b.report.add(result{
		Name: fmt.Sprintf("becomes slow: %s, until it has less than a tenth of its share (at most %v)", o.name, watchSlow),
		Ours: avoided.Seconds(), Unit: "s", Budget: avoidBudget, Shown: !judged,
	})
	b.report.add(result{
		Name: fmt.Sprintf("well again: %s, until it has its share back (at most %v)", o.name, watchReturn),
		Ours: back.Seconds(), Unit: "s", Budget: returnBudget, Shown: !judged,
	})
	return nil
}

// first returns how long after from ok first holds for the share that the server
// on port has of the calls made within a window. If it never does, that is the
// time for which there are calls.
func first(calls []served, port int, from time.Time, ok func(share float64) bool) time.Duration {
	sort.Slice(calls, func(i, j int) bool { return calls[i].at.Before(calls[j].at) })
	begin, its := 0, 0
	for i, c := range calls {
		if c.port == port {
			its++
		}
		for ; c.at.Sub(calls[begin].at) > window; begin++ {
			if calls[begin].port == port {
				its--
			}
		}
		full := c.at.Sub(from) >= window
		if full && ok(float64(its)/float64(i-begin+1)) {
			return calls[begin].at.Sub(from)
		}
	}
	if len(calls) == 0 {
		return 0
	}
	return calls[len(calls)-1].at.Sub(from)
}
