package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgtide/pgtide/lab"
)

const (
	// A read takes wellTime where all is well, which is so long that the machine
	// has time to spare for 32 goroutines, and slowTime where it is not.
	wellTime = 5 * time.Millisecond
	slowTime = 10 * wellTime

	warmUp   = time.Second // for pools to fill and latencies to be known
	measured = time.Second
	passes   = 3 // of everything, of which the median counts; fewer with -rounds

	// p99Budget bounds pgtide's p99 by that of a plain round robin, which meets
	// the slow replica in every third call. It holds where calls are many: a lone
	// caller makes so few that those which try an ejected replica are a percent.
	p99Budget = 0.5
	// avoidBudget and returnBudget bound, in s, how long a replica that has become
	// slow is still asked, and how long one that is well again is not.
	avoidBudget  = 2
	returnBudget = 10
)

// balanceSuite measures what one slow replica among three costs callers, for
// each way to balance, and what becomes of it when it is well again.
func balanceSuite(ctx context.Context, r *report) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 3, Settings: map[string]string{"max_connections": "300"}})
	if err != nil {
		return err
	}
	defer cluster.Close()
	r.Postgres = cluster.Version()
	if err := setupFailover(ctx, cluster); err != nil {
		return err
	}
	b := &balance{report: r, cluster: cluster}
	defer b.close()
	for _, n := range cluster.Replicas() {
		s, err := slow(fmt.Sprintf("127.0.0.1:%d", n.Port()))
		if err != nil {
			return err
		}
		b.before = append(b.before, s)
	}
	for _, part := range []func(context.Context) error{b.alike, b.oneSlow, b.oneBusy, b.turns} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// balance is a cluster whose replicas are behind proxies.
type balance struct {
	report  *report
	cluster *lab.Cluster
	before  []*slowed // in the order of the replicas; the first is the one that is slow
}

func (b *balance) close() {
	for _, s := range b.before {
		s.close()
	}
}

// well makes all replicas as quick as each other.
func (b *balance) well() {
	for _, s := range b.before {
		s.delay(wellTime)
	}
}

// figures are what a reader met.
type figures struct {
	p50, p99 float64 // ms
	share    float64 // of the calls, that of the replica that is slow, in percent
}

// figure measures a reader that is opened for it and closed.
func (b *balance) figure(ctx context.Context, open func(context.Context) (reader, error), goroutines int) (figures, error) {
	r, err := open(ctx)
	if err != nil {
		return figures{}, err
	}
	defer r.close()
	calls, err := load(ctx, r, goroutines, warmUp)
	if err == nil {
		calls, err = load(ctx, r, goroutines, measured)
	}
	if err != nil {
		return figures{}, err
	}
	return b.sum(calls)
}

func (b *balance) sum(calls []served) (figures, error) {
	replicas := b.cluster.Replicas()
	var took []float64
	var slow int
	for _, c := range calls {
		took = append(took, ms(c.took))
		switch c.port {
		case replicas[0].Port():
			slow++
		case b.cluster.Primary().Port():
			return figures{}, fmt.Errorf("a read went to the primary, and %d replicas are up", len(replicas))
		}
	}
	return figures{quantile(took, 0.5), quantile(took, 0.99), 100 * float64(slow) / float64(len(took))}, nil
}

// opener opens one of the readers that are compared.
type opener struct {
	name string
	open func(context.Context) (reader, error)
}

func (b *balance) openers(of ...policy) (out []opener) {
	for _, p := range of {
		out = append(out, opener{p.name, func(ctx context.Context) (reader, error) { return b.routed(ctx, p) }})
	}
	return out
}

// compare measures readers of pgtide's beside the plain pools, each at several
// numbers of goroutines, pass by pass.
func (b *balance) compare(ctx context.Context, what string, readers []opener, goroutines []int, budget func(name string, goroutines int) float64) error {
	for _, n := range goroutines {
		plain := make([]figures, 0, passes)
		found := map[string][]figures{}
		for pass := range min(passes, b.report.rounds) {
			f, err := b.figure(ctx, b.byHand, n)
			if err != nil {
				return err
			}
			plain = append(plain, f)
			for _, o := range readers {
				f, err := b.figure(ctx, o.open, n)
				if err != nil {
					return err
				}
				found[o.name] = append(found[o.name], f)
			}
			fmt.Fprintf(b.report.progress, "%s, %d at once: pass %d\n", what, n, pass+1)
		}
		for _, o := range readers {
			b.add(fmt.Sprintf("%s: %s, %d at once, ", what, o.name, n), found[o.name], plain, budget(o.name, n))
		}
	}
	return nil
}

// add reports figures beside those of the same passes on plain pools.
func (b *balance) add(name string, ours, plain []figures, budget float64) {
	for _, f := range []struct {
		name, unit string
		of         func(figures) float64
		budget     float64
	}{
		{"p50", "ms", func(f figures) float64 { return f.p50 }, 0},
		{"p99", "ms", func(f figures) float64 { return f.p99 }, budget},
		{"the first replica's share", "%", func(f figures) float64 { return f.share }, 0},
	} {
		var x, y, ratios []float64
		for i := range ours {
			x, y = append(x, f.of(ours[i])), append(y, f.of(plain[i]))
			ratios = append(ratios, x[i]/y[i])
		}
		b.report.add(result{
			Name: name + f.name, Ours: median(x), Theirs: median(y), Against: "pgxpool in turn",
			Unit: f.unit, Ratio: median(ratios), Budget: f.budget, Shown: f.budget == 0,
		})
	}
}

// shown is a figure without a budget.
func shown(string, int) float64 { return 0 }

// alike is the control: no replica is slow.
func (b *balance) alike(ctx context.Context) error {
	b.well()
	return b.compare(ctx, "all alike", b.openers(policies[0], policies[2]), []int{8}, shown)
}

// oneSlow has one replica take ten times as long for each answer.
func (b *balance) oneSlow(ctx context.Context) error {
	b.well()
	b.before[0].delay(slowTime)
	return b.compare(ctx, "one slow", b.openers(policies...), []int{1, 8, 32}, func(name string, goroutines int) float64 {
		if name == policies[0].name && goroutines > 1 {
			return p99Budget
		}
		return 0
	})
}

// oneBusy has one replica answer one call at a time, as one does whose processor
// somebody else has: the more it is asked, the longer it takes.
func (b *balance) oneBusy(ctx context.Context) error {
	b.well()
	b.before[0].queue(wellTime)
	return b.compare(ctx, "one busy", b.openers(policies[0], policies[2]), []int{8, 32}, shown)
}
