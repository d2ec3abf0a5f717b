package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

const (
	// silence is how long a server is frozen.
	silence = 3 * time.Second
	// arrival is the time between two calls. They are made as requests come to a
	// service, whether or not earlier ones have been answered.
	arrival = 5 * time.Millisecond
	// late is what makes a call a delayed one.
	late = 100 * time.Millisecond
)

// arrived is one call.
type arrived struct {
	at   time.Time
	took time.Duration
	err  error
}

// stream makes calls at a steady pace until it is stopped.
type stream struct {
	name  string
	mu    sync.Mutex // guards calls
	calls []arrived
	stop  func() // and waits for the calls under way
}

func newStream(ctx context.Context, name string, call func(context.Context) error) *stream {
	s := &stream{name: name}
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(arrival)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ended:
				return
			case <-ctx.Done():
				return
			}
			group.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, callLimit)
				defer cancel()
				began := time.Now()
				err := call(ctx)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.calls = append(s.calls, arrived{began, time.Since(began), err})
			})
		}
	})
	s.stop = sync.OnceFunc(func() { close(ended); group.Wait() })
	return s
}

// callers begin the calls of two or three kinds. Writes are kept away from
// where replicas are looked at: outside a session a read must see all of them, and
// those reads would be the primary's. They note in reads how many each server has
// served, by its port.
func (f *failover) callers(ctx context.Context, db *pgtide.DB, writes bool, reads *sync.Map) []*stream {
	read := func(ctx context.Context) error {
		var port int
		err := db.QueryRow(ctx, readItem, 1).Scan(&port)
		n, _ := reads.LoadOrStore(port, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		return err
	}
	out := []*stream{
		newStream(ctx, "reads", read),
		newStream(ctx, "reads that may be stale", func(ctx context.Context) error {
			return read(pgtide.WithConsistency(ctx, pgtide.Eventual))
		}),
	}
	if writes {
		out = append(out, newStream(ctx, "writes", func(ctx context.Context) error {
			_, err := db.Exec(ctx, "insert into written (client, id) values ('stream', $1)", f.ids.Add(1))
			return err
		}))
	}
	return out
}

// drill is what a silent server did to callers, over all runs.
type drill struct {
	name    string
	noticed []float64
	streams map[string]*met
	order   []string
}

// met is what calls of one kind met while the server was silent.
type met struct {
	calls, delayed int
	knowing        int // of the delayed, those made and late while the server was known to be silent
	longest        time.Duration
	failed         int
	last           error
}

// note adds what the calls of s met that ended after from. The server was known
// to be silent from noticed on and spoke again at thawed: then all that it held
// comes at once, which is no fault of a call that went elsewhere.
func (d *drill) note(s *stream, from, noticed, thawed time.Time) {
	if d.streams == nil {
		d.streams = map[string]*met{}
	}
	m := d.streams[s.name]
	if m == nil {
		m = &met{}
		d.streams[s.name] = m
		d.order = append(d.order, s.name)
	}
	for _, c := range s.calls {
		if c.at.Add(c.took).Before(from) {
			continue
		}
		m.calls++
		m.longest = max(m.longest, c.took)
		if c.took > late {
			m.delayed++
			if c.at.After(noticed) && c.at.Add(late).Before(thawed) {
				m.knowing++
			}
		}
		if c.err != nil {
			m.failed++
			m.last = c.err
		}
	}
}

// silent freezes a server for a while under load, and thaws it. The callers'
// pgtide is opened for it: one that has seen the server come and go before would
// spare it, and then nobody would be hurt.
func (f *failover) silent(ctx context.Context, d *drill, n *lab.Node) error {
	told := newStates()
	db, err := f.open(ctx, told)
	if err != nil {
		return err
	}
	defer db.Close()
	var reads sync.Map // how many by the server's port
	streams := f.callers(ctx, db, n == f.cluster.Primary(), &reads)
	stopAll := func() {
		for _, s := range streams {
			s.stop()
		}
	}
	defer stopAll()
	if err := rest(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	if _, asked := reads.Load(n.Port()); !asked {
		return fmt.Errorf("no read went to %s while it was well", n.Name())
	}
	told.forget()
	// The clock starts before the first of the server's processes is stopped.
	began := time.Now()
	if err := n.Freeze(ctx); err != nil {
		return err
	}
	noticed, err := told.seen(ctx, n.Name(), "down")
	if err == nil {
		err = rest(ctx, time.Until(began.Add(silence)))
	}
	thawed := time.Now()
	if err = errors.Join(err, n.Thaw(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if _, err := told.seen(ctx, n.Name(), "up"); err != nil {
		return err
	}
	if err := rest(ctx, 200*time.Millisecond); err != nil {
		return err
	}
	stopAll()
	d.noticed = append(d.noticed, ms(noticed.Sub(began)))
	for _, s := range streams {
		d.note(s, began, noticed, thawed)
	}
	fmt.Fprintf(f.report.progress, "%s: noticed after %.0f ms\n", d.name, d.noticed[len(d.noticed)-1])
	return nil
}

func (f *failover) silentReplica(ctx context.Context) error {
	d := &drill{name: "frozen replica"}
	for range min(drills, f.report.rounds) {
		if err := f.silent(ctx, d, f.cluster.Replicas()[0]); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	// There are others to serve a call that knows of the silence.
	d.report(f.report, "reads", "reads that may be stale")
	return nil
}

// silentPrimary is a primary that nobody replaces: writes wait for it, and so do
// reads that must see what was just written.
func (f *failover) silentPrimary(ctx context.Context) error {
	d := &drill{name: "frozen primary"}
	for range min(drills, f.report.rounds) {
		if err := f.silent(ctx, d, f.cluster.Primary()); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	d.report(f.report, "reads that may be stale")
	return nil
}

// report adds what was found. For calls of the kinds named, there is a server
// that can serve them: once the silence is known, none may be late.
func (d *drill) report(r *report, served ...string) {
	r.add(result{Name: d.name + ": noticed after, at most", Ours: slices.Max(d.noticed), Unit: "ms", Budget: noticeBudget})
	for _, name := range d.order {
		m := d.streams[name]
		of := fmt.Sprintf("%s: of %d %s, ", d.name, m.calls, name)
		r.add(result{Name: fmt.Sprintf("%slate by %v", of, late), Ours: float64(m.delayed), Unit: "calls", Shown: true})
		r.add(result{Name: of + "late though it was noticed", Ours: float64(m.knowing), Unit: "calls", Shown: !slices.Contains(served, name)})
		r.add(result{Name: of + "failed", Ours: float64(m.failed), Unit: "calls", Budget: 0})
		if m.failed > 0 {
			fmt.Fprintf(r.progress, "the last of them: %v\n", m.last)
		}
		r.add(result{Name: of + "the longest", Ours: ms(m.longest), Unit: "ms", Shown: true})
	}
}
