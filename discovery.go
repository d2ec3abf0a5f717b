package pgtide

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// Discoverer finds the nodes of a cluster. Those in package discover ask DNS,
// the primary, or Patroni.
type Discoverer interface {
	// Discover returns the nodes that there are now. One that was there before,
	// with the same name and otherwise the same, stays as it is; others join and
	// leave. An error, or no node at all, leaves all as they are. Roles are not
	// its concern: the servers are asked. It is not called twice at once, and
	// must return soon after ctx ends.
	Discover(ctx context.Context) ([]Node, error)
}

// DiscovererFunc is a function that is a [Discoverer].
type DiscovererFunc func(ctx context.Context) ([]Node, error)

// Discover implements [Discoverer].
func (f DiscovererFunc) Discover(ctx context.Context) ([]Node, error) { return f(ctx) }

const (
	// discoverTimeout is how long a Discoverer may take.
	discoverTimeout = 5 * time.Second
	// discoverPause is the least time between two questions to one.
	discoverPause = time.Second
)

// errNoNodes keeps an empty answer from emptying the house.
var errNoNodes = errors.New("it found no nodes")

// discovery is the asking for nodes while a DB runs. The zero value asks nobody.
type discovery struct {
	running sync.WaitGroup
	stop    context.CancelFunc
	missing chan struct{} // gets a value when a node is
}

// look notes that v lacks what old had.
func (d *discovery) look(old, v *topology.View) {
	if d.missing == nil {
		return
	}
	worse := old.Primary != topology.NoNode && v.Primary == topology.NoNode
	for i := range v.Nodes {
		worse = worse || v.Nodes[i].State == topology.Down && before(old, v, i).State == topology.Up
	}
	if !worse {
		return
	}
	select {
	case d.missing <- struct{}{}:
	default: // it is known already
	}
}

func (d *discovery) end() {
	if d.stop != nil {
		d.stop()
	}
	d.running.Wait()
}

// discoverFirst finds the nodes to begin with, and then goes on asking.
func (db *DB) discoverFirst(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, max(db.options.FailoverWait, db.options.ProbeTimeout))
	defer cancel()
	db.discovery.missing = make(chan struct{}, 1)
	for {
		err := db.discover(wait)
		if err == nil || db.options.Degraded {
			break
		}
		select {
		case <-wait.Done():
			return fmt.Errorf("discover the nodes: %w", err)
		case <-time.After(discoverPause):
		}
	}
	var background context.Context
	background, db.discovery.stop = context.WithCancel(context.Background())
	db.discovery.running.Go(func() { db.rediscover(background) })
	return nil
}

// rediscover asks for the nodes until ctx ends.
func (db *DB) rediscover(ctx context.Context) {
	asked := time.Now()
	pause := time.NewTimer(db.options.DiscoverInterval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		case <-db.discovery.missing:
			if rest := time.Until(asked.Add(discoverPause)); rest > 0 {
				pause.Reset(rest)
				continue
			}
		}
		asked = time.Now()
		_ = db.discover(ctx) // hooks and Stat tell of it, unless it was cut short
		next := db.options.DiscoverInterval
		if db.watch.View().Primary == topology.NoNode {
			next = min(next, discoverPause) // it may be a node that is not known yet
		}
		pause.Reset(next)
	}
}

// discover asks once.
func (db *DB) discover(ctx context.Context) error {
	joined, left, err := db.discoverNodes(ctx)
	if db.isClosed() {
		return ErrClosed
	}
	db.stat.discoveries.Add(1)
	if err != nil {
		db.stat.discoveryErrors.Add(1)
	}
	if f := db.options.Hooks.OnDiscover; f != nil && (len(joined) > 0 || len(left) > 0 || err != nil) {
		f(joined, left, err)
	}
	return err
}

func (db *DB) discoverNodes(ctx context.Context) (joined, left []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	nodes, err := db.askDiscoverer(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(nodes) == 0 {
		return nil, nil, errNoNodes
	}
	configs, err := configsOf(nodes)
	if err != nil {
		return nil, nil, err
	}
	return db.enrol(configs)
}

// askDiscoverer makes an error of a panic: it is no reason to end a program that
// runs well on the nodes it has.
func (db *DB) askDiscoverer(ctx context.Context) (nodes []Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			nodes, err = nil, fmt.Errorf("the Discoverer panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return db.options.Discover.Discover(ctx)
}
