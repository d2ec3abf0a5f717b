package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// writersEach is how many goroutines of a client write at once.
const writersEach = 2

// writePause is how long a writer waits after each call, whether it succeeded or
// not: every client is as quick to try again as any other.
const writePause = time.Millisecond

// keep has c write until stop is set.
func (f *failover) keep(ctx context.Context, c client, stop *atomic.Bool) {
	for !stop.Load() && ctx.Err() == nil {
		_ = c.write(ctx, f.ids.Add(1)) // the tally has it
		if rest(ctx, writePause) != nil {
			return
		}
	}
}

// kills measures how soon writes go on when a primary has died and a replica has
// been promoted. Every event is met by four clients: one of pgtide and one of
// pgxpool whose writers never pause, and one of each that is idle and writes when
// the promotion is done.
func (f *failover) kills(ctx context.Context) error {
	idleDB, err := f.open(ctx, nil)
	if err != nil {
		return err
	}
	defer idleDB.Close()
	idlePool, err := f.openPool(ctx, func(*pgxpool.Config) {})
	if err != nil {
		return err
	}
	defer idlePool.Close()
	k := &killed{
		busy: [2]client{{"pgtide", f.db, newTally()}, {"pgxpool", f.pool, newTally()}},
		idle: [2]client{{"pgtide idle", idleDB, newTally()}, {"pgxpool idle", idlePool, newTally()}},
	}
	runs := min(failovers, f.report.rounds)
	for run := range runs {
		// Probes and events must not keep step.
		pause := 50*time.Millisecond + time.Duration(run*37%400)*time.Millisecond
		if err := k.once(ctx, f, pause); err != nil {
			return fmt.Errorf("failover %d: %w", run+1, err)
		}
		last := len(k.took) - 1
		fmt.Fprintf(f.report.progress, "failover %d of %d: promoted in %.0f ms, first write after %.1f ms (pgxpool %.1f), of an idle caller %.1f (%.1f)\n",
			run+1, runs, k.promoted[last], k.took[last][0], k.took[last][1], k.tookIdle[last][0], k.tookIdle[last][1])
	}
	return k.report(ctx, f)
}

// killed is what was found when primaries were killed.
type killed struct {
	busy, idle     [2]client // pgtide's and the plain pool's
	took, tookIdle [][2]float64
	promoted       []float64
	known          []float64 // promoted until pgtide's busy client knew
}

func (k *killed) clients() []client { return append(k.busy[:], k.idle[:]...) }

func (k *killed) once(ctx context.Context, f *failover, pause time.Duration) error {
	old := f.cluster.Primary()
	for _, c := range k.clients() {
		c.found.begin()
	}
	var stop atomic.Bool
	var group sync.WaitGroup
	defer group.Wait()
	defer stop.Store(true)
	for _, c := range k.busy {
		for range writersEach {
			group.Go(func() { f.keep(ctx, c, &stop) })
		}
	}
	for _, c := range k.idle { // they have connections, too
		if err := c.write(ctx, f.ids.Add(1)); err != nil {
			return err
		}
	}
	if err := wrote(ctx, k.busy, old.Port()); err != nil {
		return err
	}
	if err := old.Kill(ctx); err != nil {
		return err
	}
	if err := rest(ctx, pause); err != nil {
		return err
	}
	next, err := f.ahead(ctx)
	if err != nil {
		return err
	}
	f.states.forget()
	p, err := f.promote(ctx, next)
	if err != nil {
		return err
	}
	for _, c := range k.idle {
		group.Go(func() {
			for c.write(ctx, f.ids.Add(1)) != nil && !stop.Load() && rest(ctx, writePause) == nil {
			}
		})
	}
	for _, clients := range [][2]client{k.busy, k.idle} {
		if err := wrote(ctx, clients, next.Port()); err != nil {
			return err
		}
	}
	known, err := f.states.seen(ctx, next.Name(), writable)
	if err != nil {
		return err
	}
	k.promoted, k.known = append(k.promoted, ms(p.done.Sub(p.asked))), append(k.known, ms(known.Sub(p.done)))
	since := func(clients [2]client) (took [2]float64) {
		for i, c := range clients {
			took[i] = ms(c.found.at(next.Port()).Sub(p.done))
		}
		return took
	}
	k.took, k.tookIdle = append(k.took, since(k.busy)), append(k.tookIdle, since(k.idle))
	// What a pool still has of the old primary may fail a call later.
	if err := rest(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	stop.Store(true)
	group.Wait()
	return f.mend(ctx, old)
}

// wrote waits until each client has written to the server on port.
func wrote(ctx context.Context, clients [2]client, port int) error {
	for _, c := range clients {
		err := until(ctx, "a write of "+c.name, func() (bool, error) { return !c.found.at(port).IsZero(), nil })
		if err != nil {
			c.found.mu.Lock()
			defer c.found.mu.Unlock()
			return errors.Join(err, c.found.last)
		}
	}
	return nil
}

func (k *killed) report(ctx context.Context, f *failover) error {
	for _, s := range []struct {
		caller string
		took   [][2]float64
	}{{"a caller that keeps writing", k.took}, {"an idle caller", k.tookIdle}} {
		var ours, theirs, ratios []float64
		for _, t := range s.took {
			ours, theirs, ratios = append(ours, t[0]), append(theirs, t[1]), append(ratios, t[0]/t[1])
		}
		name := fmt.Sprintf("killed: promoted until %s has written, ", s.caller)
		f.report.add(result{Name: name + "p50", Ours: median(ours), Theirs: median(theirs), Against: "pgxpool", Unit: "ms", Ratio: median(ratios), Shown: true})
		f.report.add(result{Name: name + "p99", Ours: quantile(ours, 0.99), Unit: "ms", Budget: firstWriteBudget})
		f.report.add(result{
			Name: name + "p99 of both", Ours: quantile(ours, 0.99), Theirs: quantile(theirs, 0.99), Against: "pgxpool",
			Unit: "ms", Ratio: quantile(ours, 0.99) / quantile(theirs, 0.99), Shown: true,
		})
	}
	f.report.add(result{Name: "killed: asked for until promoted, the server's own part, p50", Ours: median(k.promoted), Unit: "ms", Shown: true})
	f.report.add(result{Name: "killed: promoted until pgtide knew of it, p50", Ours: median(k.known), Unit: "ms", Shown: true})
	ours, theirs := k.failures(0), k.failures(1)
	f.report.add(result{Name: fmt.Sprintf("killed: failed of %d calls (pgxpool: of %d)", ours.calls, theirs.calls), Ours: float64(ours.failed), Theirs: float64(theirs.failed), Against: "pgxpool", Unit: "calls", Ratio: float64(ours.failed) / float64(max(1, theirs.failed)), Shown: true})
	f.report.add(result{Name: "killed: failed, and not for an unknown outcome", Ours: float64(ours.wrong), Unit: "calls", Budget: 0})
	if ours.wrong > 0 {
		fmt.Fprintf(f.report.progress, "the last such call: %v\n", ours.last)
	}
	var twice, lost int
	for _, c := range []client{k.busy[0], k.idle[0]} {
		w, err := f.rows(ctx, c.name, c.found.acked)
		if err != nil {
			return err
		}
		twice, lost = twice+w.twice, lost+w.lost
	}
	f.report.add(result{Name: "killed: rows written twice", Ours: float64(twice), Unit: "rows", Budget: 0})
	// Replication is asynchronous: what the primary had not sent died with it.
	f.report.add(result{Name: "killed: acknowledged by the dead primary alone", Ours: float64(lost), Unit: "rows", Shown: true})
	return nil
}

type failures struct {
	calls, failed, wrong int
	last                 error
}

// failures sums up the calls of pgtide's clients, or of the pool's.
func (k *killed) failures(i int) (out failures) {
	for _, c := range []client{k.busy[i], k.idle[i]} {
		t := c.found
		t.mu.Lock()
		out.failed += t.failed + t.unknown
		out.calls += t.failed + t.unknown + len(t.acked)
		out.wrong += t.failed
		if t.last != nil {
			out.last = t.last
		}
		t.mu.Unlock()
	}
	return out
}
