package keeper

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgtide/pgtide/lab"
)

const (
	// patience is how long the pool may stand still before somebody who waits
	// gets a cluster beyond the limit: the holders may be waiting for them.
	patience = 10 * time.Second
	// mostClusters bounds the pool whatever happens.
	mostClusters = 64
)

// pool holds the clusters, and who has leased which.
type pool struct {
	records string
	limit   int // clusters that run at once, as a rule

	mu         sync.Mutex    // guards the fields below
	changed    chan struct{} // closed and replaced at each change
	clusters   []*cluster
	starting   int
	discarding int            // taken out, and still being closed
	waiting    map[string]int // by spec
	progress   time.Time      // when a lease began or ended last
	keepUntil  time.Time
	made       int
	ending     bool
}

func newPool(dir string) *pool {
	p := &pool{
		records: filepath.Join(dir, recordDir), limit: min(max(2, runtime.NumCPU()), 16),
		changed: make(chan struct{}), waiting: map[string]int{}, progress: time.Now(),
	}
	if n, err := strconv.Atoi(os.Getenv(EnvClusters)); err == nil && n > 0 {
		p.limit = n
	}
	return p
}

// broadcast wakes those who wait for a change. The lock is held.
func (p *pool) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// lease returns a cluster that nobody else uses, started if need be.
func (p *pool) lease(ctx context.Context, r request) (*cluster, error) {
	spec := r.Spec.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending {
		return nil, errEnding
	}
	p.waiting[spec]++
	defer func() {
		p.waiting[spec]--
		p.broadcast() // others may have waited behind us
	}()
	for {
		if c := p.idle(spec, r.Template); c != nil {
			p.hand(c, r)
			return c, nil
		}
		if p.room(spec, r.Holder) {
			c, err := p.start(ctx, r.Spec)
			if err != nil {
				return nil, err
			}
			p.hand(c, r)
			return c, nil
		}
		changed, stalled := p.changed, time.NewTimer(max(time.Until(p.progress.Add(patience)), 0)+10*time.Millisecond)
		p.mu.Unlock()
		select {
		case <-changed:
		case <-stalled.C:
		case <-ctx.Done():
		}
		stalled.Stop()
		p.mu.Lock()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no test cluster became free: %s hold all %d: end some tests, or raise %s: %w",
				strings.Join(p.holders(), ", "), len(p.clusters), EnvClusters, context.Cause(ctx))
		}
	}
}

func (p *pool) hand(c *cluster, r request) {
	c.holder = &r.Holder
	c.templates[r.Template] = true
	p.progress = time.Now()
}

func (p *pool) holders() []string {
	var names []string
	for _, c := range p.clusters {
		if c.holder != nil {
			names = append(names, c.holder.String())
		}
	}
	return names
}

// idle returns a free cluster, if possible one that has the template.
func (p *pool) idle(spec, template string) *cluster {
	var found *cluster
	for _, c := range p.clusters {
		if c.spec == spec && c.holder == nil && !c.tended {
			if c.templates[template] {
				return c
			}
			found = c
		}
	}
	return found
}

// room reports whether one more cluster may start for the holder.
func (p *pool) room(spec string, h Holder) bool {
	soon := 0 // clusters about to be free
	for _, c := range p.clusters {
		if c.spec == spec && c.tended {
			soon++
		}
		// A subtest's cluster must not wait for that of the test around it.
		if c.holder != nil && c.holder.PID == h.PID && len(p.clusters)+p.starting < mostClusters &&
			(c.holder.Test == h.Test || strings.HasPrefix(h.Test, c.holder.Test+"/")) {
			return true
		}
	}
	if soon >= p.waiting[spec] {
		return false
	}
	switch n := len(p.clusters) + p.starting; {
	case n < p.limit:
		return true
	case n < mostClusters && time.Since(p.progress) >= patience && !p.moving():
		p.progress = time.Now() // one at a time
		return true
	}
	// One that nobody of this kind can use makes room.
	i := slices.IndexFunc(p.clusters, func(c *cluster) bool { return c.spec != spec && c.holder == nil && !c.tended })
	if i < 0 {
		return false
	}
	c := p.clusters[i]
	p.clusters = slices.Delete(p.clusters, i, i+1)
	p.discarding++
	go func() {
		c.discard("another kind is needed")
		p.mu.Lock()
		defer p.mu.Unlock()
		p.discarding--
		p.broadcast()
	}()
	return true
}

// moving reports whether a cluster is about to be free, or gone. The lock is held.
func (p *pool) moving() bool {
	return p.starting > 0 || p.discarding > 0 || slices.ContainsFunc(p.clusters, func(c *cluster) bool { return c.tended })
}

// start makes a cluster. The lock is held, but not meanwhile.
func (p *pool) start(ctx context.Context, spec Spec) (*cluster, error) {
	p.starting++
	p.made++
	record := filepath.Join(p.records, fmt.Sprintf("%d-%d", os.Getpid(), p.made))
	p.mu.Unlock()
	settings := map[string]string{
		// Nothing but the test writes while it runs, and no worker is in a
		// template's way.
		"autovacuum": "off",
	}
	maps.Copy(settings, spec.Settings)
	began := time.Now()
	started, err := lab.Start(ctx, lab.Options{Replicas: spec.Replicas, BinDir: spec.BinDir, Settings: settings})
	if err == nil {
		err = errors.Join(os.MkdirAll(p.records, 0o700), os.WriteFile(record, []byte(started.Dir()), 0o600))
		if err != nil {
			err = errors.Join(err, started.Close())
		}
	}
	p.mu.Lock()
	p.starting--
	if err != nil {
		return nil, err
	}
	log.Printf("cluster in %s started in %v", started.Dir(), time.Since(began))
	c := newCluster(started, spec.key(), record)
	p.clusters = append(p.clusters, c)
	return c, nil
}

// takeBack ends a lease.
func (p *pool) takeBack(c *cluster, keep time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.holder, c.tended = nil, true
	p.progress = time.Now()
	if keep > 0 {
		if until := time.Now().Add(keep); until.After(p.keepUntil) {
			p.keepUntil = until
		}
	}
	p.broadcast()
}

// tend puts a cluster that came back right and checks it, or throws it away.
func (p *pool) tend(c *cluster) {
	err := c.tend()
	p.mu.Lock()
	c.tended = false
	if err != nil {
		p.clusters = slices.DeleteFunc(p.clusters, func(other *cluster) bool { return other == c })
		p.discarding++
	}
	p.broadcast()
	p.mu.Unlock()
	if err != nil {
		c.discard(err.Error())
		p.mu.Lock()
		p.discarding--
		p.broadcast()
		p.mu.Unlock()
	}
}

// awaitIdle returns once nobody has used the pool for a while, or ctx ends. No
// lease begins after that.
func (p *pool) awaitIdle(ctx context.Context, linger time.Duration) {
	for {
		p.mu.Lock()
		now := time.Now()
		rest := p.progress.Add(linger).Sub(now)
		rest = max(rest, p.keepUntil.Sub(now))
		busy := p.moving() || slices.ContainsFunc(p.clusters, func(c *cluster) bool { return c.holder != nil })
		for _, n := range p.waiting {
			busy = busy || n > 0
		}
		if !busy && rest <= 0 || ctx.Err() != nil {
			p.ending = true
			p.mu.Unlock()
			return
		}
		changed := p.changed
		p.mu.Unlock()
		timer := time.NewTimer(max(rest, 10*time.Millisecond))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, c := range p.clusters {
		errs = append(errs, c.discard("the keeper ends"))
	}
	return errors.Join(errs...)
}
