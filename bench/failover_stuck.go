package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

// stuckFor is how long a frozen primary is left beside the one that replaced it:
// often there is nobody who can end it.
const stuckFor = 2 * time.Second

// replaced is what was found when frozen primaries were replaced.
type replaced struct {
	took    [2][]float64 // pgtide's and pgxpool's
	calls   [2]int
	bad     [2]int // failed, or late by more than the time without a primary
	held    int    // of pgtide's calls, those that were not sent and still waited
	unknown int
	wrong   int
	wrongly error
}

// silentFailover freezes the primary, promotes a replica as soon as that is
// noticed, and measures when new writes go through. What the frozen server holds
// is nobody's to take back; what waits for a connection to it is.
func (f *failover) silentFailover(ctx context.Context) error {
	const name = "frozen primary replaced: "
	found := &replaced{}
	for range min(drills, f.report.rounds) {
		if err := found.once(ctx, f); err != nil {
			return fmt.Errorf("%s%w", name, err)
		}
		last := len(found.took[0]) - 1
		fmt.Fprintf(f.report.progress, "%sfirst write after %.1f ms (pgxpool %.1f)\n", name, found.took[0][last], found.took[1][last])
	}
	var ratios []float64
	for i, ours := range found.took[0] {
		ratios = append(ratios, ours/found.took[1][i])
	}
	r := f.report
	r.add(result{
		Name: name + "promoted until the first write, p50", Ours: median(found.took[0]), Theirs: median(found.took[1]), Against: "pgxpool",
		Unit: "ms", Ratio: median(ratios), Shown: true,
	})
	r.add(result{Name: name + "promoted until the first write, at most", Ours: slices.Max(found.took[0]), Unit: "ms", Budget: firstWriteBudget})
	r.add(result{
		Name: fmt.Sprintf("%sfailed, or late by %v once there was a primary, of %d writes (pgxpool: of %d)", name, late, found.calls[0], found.calls[1]),
		Ours: float64(found.bad[0]), Theirs: float64(found.bad[1]), Against: "pgxpool",
		Unit: "calls", Ratio: float64(found.bad[0]) / float64(max(1, found.bad[1])), Shown: true,
	})
	r.add(result{Name: name + "of unknown outcome, the frozen server had them", Ours: float64(found.unknown), Unit: "calls", Shown: true})
	r.add(result{Name: name + "not sent, and waiting until the frozen server was killed", Ours: float64(found.held), Unit: "calls", Shown: true})
	r.add(result{Name: name + "failed, and not for an unknown outcome", Ours: float64(found.wrong), Unit: "calls", Budget: 0})
	if found.wrong > 0 {
		fmt.Fprintf(r.progress, "the last such call: %v\n", found.wrongly)
	}
	return nil
}

func (found *replaced) once(ctx context.Context, f *failover) error {
	old := f.cluster.Primary()
	// pgxpool has to give up connecting to a silent host some time. It is given
	// what pgtide's probes have.
	pool, err := f.openPool(ctx, func(c *pgxpool.Config) { c.ConnConfig.ConnectTimeout = pgtide.DefaultProbeTimeout })
	if err != nil {
		return err
	}
	defer pool.Close()
	writes := [2]client{{"pgtide", f.db, newTally()}, {"pgxpool", pool, newTally()}}
	var streams [2]*stream
	for i, c := range writes {
		streams[i] = newStream(ctx, c.name, func(ctx context.Context) error { return c.write(ctx, f.ids.Add(1)) })
		defer streams[i].stop()
	}
	if err := wrote(ctx, writes, old.Port()); err != nil {
		return err
	}
	f.states.forget()
	if err := old.Freeze(ctx); err != nil {
		return err
	}
	if _, err := f.states.seen(ctx, old.Name(), "down"); err != nil {
		return err
	}
	next, err := f.ahead(ctx)
	if err != nil {
		return err
	}
	p, err := f.promote(ctx, next)
	if err != nil {
		return err
	}
	if err := wrote(ctx, writes, next.Port()); err != nil {
		return err
	}
	if err := rest(ctx, time.Until(p.done.Add(stuckFor))); err != nil {
		return err
	}
	killing := time.Now()
	if err := old.Kill(ctx); err != nil {
		return err
	}
	for i, c := range writes {
		streams[i].stop()
		found.took[i] = append(found.took[i], ms(c.found.at(next.Port()).Sub(p.done)))
		for _, call := range streams[i].calls {
			found.calls[i]++
			end := call.at.Add(call.took)
			if call.err != nil || call.took > late && end.After(p.done.Add(late)) {
				found.bad[i]++
			}
			if i == 0 && call.err == nil && call.at.Before(p.done) && end.After(killing) {
				found.held++
			}
		}
	}
	t := writes[0].found
	found.unknown, found.wrong = found.unknown+t.unknown, found.wrong+t.failed
	if t.last != nil {
		found.wrongly = t.last
	}
	return f.mend(ctx, old)
}
