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
	topology.Member
	Config *pgx.ConnConfig
	// Prepare, if set, may change the copy of Config that a connection is made
	// with, as for a password that expires.
	Prepare func(context.Context, *pgx.ConnConfig) error
	// Calls returns how many calls the node has answered and how long they took
	// together. Nil says that nobody counts.
	Calls func() (served uint64, busy time.Duration)
	// Subscription makes the node a subscriber: it is the name of the subscription
	// that keeps it up to date.
	Subscription string
}

// Options configure a [Watcher]. All fields are required but OnView.
type Options struct {
	Rules   topology.Rules // Interval is also that of the probes
	Timeout time.Duration  // for one probe, connecting included
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
	context context.Context // of all probes
	stop    context.CancelFunc
	done    sync.WaitGroup
	probers [topology.MaxNodes]atomic.Pointer[prober] // by place
	// subscribers is how many there are among the nodes.
	subscribers atomic.Int32

	view    atomic.Pointer[topology.View]
	changed atomic.Pointer[chan struct{}]

	mu      sync.Mutex // guards tracker, and orders views and members
	tracker *topology.Tracker
	closed  bool
}

// New returns a Watcher of no nodes.
func New(o Options) *Watcher {
	w := &Watcher{options: o, epoch: time.Now(), tracker: topology.NewTracker(o.Rules)}
	w.context, w.stop = context.WithCancel(context.Background())
	w.view.Store(w.tracker.View())
	ch := make(chan struct{})
	w.changed.Store(&ch)
	return w
}

// Join begins to watch nodes. Each is given a place in the views and an ID,
// which placed is told before there is a view with any of them. There must be
// places free.
func (w *Watcher) Join(nodes []Node, placed func(i, place int, id uint32)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	probers := make([]*prober, len(nodes))
	for i, n := range nodes {
		place, id := w.tracker.Join(n.Member)
		probers[i] = newProber(w, place, id, n)
		w.probers[place].Store(probers[i])
		if n.Subscription != "" {
			w.subscribers.Add(1)
		}
		placed(i, place, id)
	}
	w.publish(w.tracker.Next())
	for _, p := range probers {
		w.done.Go(p.run)
	}
}

// Leave ends the watch of the node in a place, which is free from then on. When
// it returns there is a view without the node.
func (w *Watcher) Leave(place int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.probers[place].Swap(nil); p != nil {
		p.stop()
		if p.node.Subscription != "" {
			w.subscribers.Add(-1)
		}
		w.publish(w.tracker.Leave(place))
	}
}

// Close stops probing and waits until every connection is closed.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
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
// until [Attention.Leave].
func (w *Watcher) Attend(set uint64) Attention {
	a := Attention{}
	w.each(set, func(p *prober) {
		p.waiters.Add(1)
		p.wake()
		a = append(a, p)
	})
	return a
}

// Attention is what somebody claims of probers.
type Attention []*prober

// Leave ends the claim.
func (a Attention) Leave() {
	for _, p := range a {
		p.waiters.Add(-1)
	}
}

// Kick makes the nodes of the set be probed soon, for something smells wrong.
func (w *Watcher) Kick(set uint64) {
	w.each(set, func(p *prober) { p.wake() })
}

// Redial makes the node in a place be probed soon, over a new connection: its
// address may lead to another server by now.
func (w *Watcher) Redial(place int) {
	w.each(1<<uint(place), func(p *prober) {
		p.stale.Store(true)
		p.wake()
	})
}

// Probes returns how many probes the node in a place has been sent.
func (w *Watcher) Probes(place int) int64 {
	if p := w.probers[place].Load(); p != nil {
		return p.probes.Load()
	}
	return 0
}

func (w *Watcher) each(set uint64, f func(*prober)) {
	for ; set != 0; set &= set - 1 {
		if p := w.probers[bits.TrailingZeros64(set)].Load(); p != nil {
			f(p)
		}
	}
}

// observe takes in what p has seen.
func (w *Watcher) observe(p *prober, o topology.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probers[p.place].Load() == p { // it has not left
		w.publish(w.tracker.Observe(o))
	}
}

// publish makes v the newest view. w.mu is held.
func (w *Watcher) publish(v *topology.View) {
	old := w.view.Swap(v)
	if w.options.OnView != nil {
		w.options.OnView(old, v)
	}
	next := make(chan struct{})
	close(*w.changed.Swap(&next))
}
