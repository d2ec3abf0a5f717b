package watch

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/topology"
)

// Node is a server to watch.
type Node struct {
	Name   string
	Config *pgx.ConnConfig
	// Prepare, if set, may change the copy of Config that a connection is made
	// with, as for a password that expires.
	Prepare func(context.Context, *pgx.ConnConfig) error
}

// Options configure a [Watcher]. All fields are required but OnView.
type Options struct {
	Nodes    []Node
	Interval time.Duration // between two probes of a node when nobody waits
	Timeout  time.Duration // for one probe, connecting included
	// Writes returns the number of writes that have returned so far.
	Writes func() uint64
	// OnView is told of each new view, with the one before it, in order. It
	// must not block: probing waits for it.
	OnView func(old, new *topology.View)
}

// Watcher probes nodes until it is closed. Its methods are safe for concurrent
// use.
type Watcher struct {
	options Options
	epoch   time.Time
	probers []*prober
	stop    context.CancelFunc
	done    sync.WaitGroup

	view    atomic.Pointer[topology.View]
	changed atomic.Pointer[chan struct{}]

	mu      sync.Mutex // guards tracker and orders views
	tracker *topology.Tracker
}

// Start begins to probe. The first view knows nothing of the nodes' state.
func Start(o Options) *Watcher {
	names := make([]string, len(o.Nodes))
	for i, n := range o.Nodes {
		names[i] = n.Name
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Watcher{options: o, epoch: time.Now(), stop: stop, tracker: topology.NewTracker(names, o.Interval)}
	w.view.Store(w.tracker.View())
	ch := make(chan struct{})
	w.changed.Store(&ch)
	for i, n := range o.Nodes {
		p := newProber(w, i, n)
		w.probers = append(w.probers, p)
	}
	for _, p := range w.probers {
		w.done.Go(func() { p.run(ctx) })
	}
	return w
}

// Close stops probing and waits until every connection is closed.
func (w *Watcher) Close() {
	w.stop()
	w.done.Wait()
}

// Now is the time on the clock that views use.
func (w *Watcher) Now() time.Duration { return time.Since(w.epoch) }

// View returns the newest view. It takes no lock.
func (w *Watcher) View() *topology.View { return w.view.Load() }

// Changed returns a channel that is closed when a view newer than any seen
// before the call is published. Take the channel first, then the view.
func (w *Watcher) Changed() <-chan struct{} { return *w.changed.Load() }

// Attend makes the nodes of the set be probed at once and each millisecond
// until as many calls of Leave.
func (w *Watcher) Attend(set uint64) {
	w.each(set, func(p *prober) { p.waiters.Add(1); p.wake() })
}

// Leave ends what [Watcher.Attend] began.
func (w *Watcher) Leave(set uint64) {
	w.each(set, func(p *prober) { p.waiters.Add(-1) })
}

// Kick makes the nodes of the set be probed soon, for something smells wrong.
func (w *Watcher) Kick(set uint64) {
	w.each(set, func(p *prober) { p.wake() })
}

// Probes returns how many probes node i has been sent.
func (w *Watcher) Probes(i int) int64 { return w.probers[i].probes.Load() }

func (w *Watcher) each(set uint64, f func(*prober)) {
	for ; set != 0; set &= set - 1 {
		if i := bits.TrailingZeros64(set); i < len(w.probers) {
			f(w.probers[i])
		}
	}
}

func (w *Watcher) observe(o topology.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.view.Load()
	v := w.tracker.Observe(o)
	w.view.Store(v)
	if w.options.OnView != nil {
		w.options.OnView(old, v)
	}
	next := make(chan struct{})
	close(*w.changed.Swap(&next))
}
