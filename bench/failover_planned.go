package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// sessionsEach and readersEach are the callers during a switchover.
const (
	sessionsEach = 4
	readersEach  = 4
)

// moved is what callers met while the primary was moved.
type moved struct {
	writer client // pgtide's, whose every row is read back
	plain  client // pgxpool's
	reads  atomic.Int64
	failed atomic.Int64 // reads
	stale  atomic.Int64 // reads that missed the session's own write

	mu      sync.Mutex // guards the fields below
	last    error
	longest [2]time.Duration // a write, a read
}

// switchovers measures what callers notice when the primary is stopped cleanly,
// a replica that has everything is promoted and the old one rejoins, all of it
// under load.
//
// Safe to be made again are reads, and writes that were not sent. A write that is
// under way when its server shuts down is neither repeated nor failed: it is
// reported as of unknown outcome.
func (f *failover) switchovers(ctx context.Context) error {
	m := &moved{writer: client{"sessions", f.db, newTally()}, plain: client{"plain", f.pool, newTally()}}
	var without []float64
	runs := min(drills, f.report.rounds)
	for run := range runs {
		gap, err := m.once(ctx, f)
		if err != nil {
			return fmt.Errorf("switchover %d: %w", run+1, err)
		}
		without = append(without, ms(gap))
		fmt.Fprintf(f.report.progress, "switchover %d of %d: no primary for %.0f ms\n", run+1, runs, without[run])
	}
	w, err := f.rows(ctx, m.writer.name, m.writer.found.acked)
	if err != nil {
		return err
	}
	t, p := m.writer.found, m.plain.found
	calls := int(m.reads.Load()) + len(t.acked) + t.unknown + t.failed
	failed := int(m.failed.Load()) + t.failed
	r := f.report
	r.add(result{Name: fmt.Sprintf("switchover: failed of %d calls that may be made again", calls-t.unknown), Ours: float64(failed), Unit: "calls", Budget: 0})
	if failed > 0 {
		fmt.Fprintf(r.progress, "the last such call: %v\n", errors.Join(m.last, t.last))
	}
	r.add(result{Name: fmt.Sprintf("switchover: of unknown outcome, of %d writes", len(t.acked)+t.unknown), Ours: float64(t.unknown), Unit: "calls", Shown: true})
	r.add(result{Name: fmt.Sprintf("switchover: pgxpool's failed of %d writes", len(p.acked)+p.failed), Ours: float64(p.failed), Unit: "calls", Shown: true})
	r.add(result{Name: "switchover: rows written twice", Ours: float64(w.twice), Unit: "rows", Budget: 0})
	r.add(result{Name: "switchover: acknowledged rows lost", Ours: float64(w.lost), Unit: "rows", Budget: 0})
	r.add(result{Name: "switchover: reads that missed their session's write", Ours: float64(m.stale.Load()), Unit: "reads", Budget: 0})
	r.add(result{Name: "switchover: stopping the old primary until the new one was promoted, the servers' own part", Ours: median(without), Unit: "ms", Shown: true})
	r.add(result{Name: "switchover: longest write", Ours: ms(m.longest[0]), Unit: "ms", Shown: true})
	r.add(result{Name: "switchover: longest read", Ours: ms(m.longest[1]), Unit: "ms", Shown: true})
	return nil
}

// once moves the primary and returns for how long there was none.
func (m *moved) once(ctx context.Context, f *failover) (time.Duration, error) {
	old := f.cluster.Primary()
	m.writer.found.begin()
	m.plain.found.begin()
	var stop atomic.Bool
	var group sync.WaitGroup
	defer group.Wait()
	defer stop.Store(true)
	loop := func(call func()) {
		group.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				call()
				if rest(ctx, writePause) != nil {
					return
				}
			}
		})
	}
	for range sessionsEach {
		loop(func() { m.session(ctx, f.ids.Add(1)) })
	}
	for range readersEach {
		loop(func() { m.read(ctx, "select v from item where id = $1", 1+f.ids.Load()%100) })
	}
	loop(func() { _ = m.plain.write(ctx, f.ids.Add(1)) })

	both := [2]client{m.writer, m.plain}
	if err := wrote(ctx, both, old.Port()); err != nil {
		return 0, err
	}
	if err := rest(ctx, 200*time.Millisecond); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := old.Stop(ctx); err != nil {
		return 0, err
	}
	next, err := f.ahead(ctx)
	if err != nil {
		return 0, err
	}
	if err := applied(ctx, next.SuperDSN()); err != nil {
		return 0, err
	}
	p, err := f.promote(ctx, next)
	if err != nil {
		return 0, err
	}
	if err := wrote(ctx, both, next.Port()); err != nil {
		return 0, err
	}
	if err := f.mend(ctx, old); err != nil { // under load as well
		return 0, err
	}
	return p.done.Sub(began), rest(ctx, 100*time.Millisecond)
}

// applied waits until a replica has applied all that it has received.
func applied(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return until(ctx, "the replica to apply all it has", func() (all bool, err error) {
		err = conn.QueryRow(ctx, "select pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()").Scan(&all)
		return all, err
	})
}

// session writes a row and reads it.
func (m *moved) session(ctx context.Context, id int64) {
	ctx = pgtide.NewSession(ctx)
	began := time.Now()
	err := m.writer.write(ctx, id)
	m.noteLongest(0, time.Since(began))
	if err != nil {
		return
	}
	switch err := m.read(ctx, "select client from written where client = 'sessions' and id = $1", id); {
	case errors.Is(err, pgx.ErrNoRows) && pgtide.Lost(ctx) == nil:
		m.stale.Add(1)
	}
}

func (m *moved) read(ctx context.Context, sql string, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	began := time.Now()
	var v string
	err := m.writer.QueryRow(ctx, sql, id).Scan(&v)
	m.noteLongest(1, time.Since(began))
	m.reads.Add(1)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		m.failed.Add(1)
		m.mu.Lock()
		m.last = err
		m.mu.Unlock()
	}
	return err
}

func (m *moved) noteLongest(i int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.longest[i] = max(m.longest[i], took)
}
