package pgtide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// place asks the router where the call goes, and again whenever a new view may
// change the answer, until there is a node to go to or no use in waiting.
func (c *call) place(ctx context.Context) error {
	w := waiter{call: c}
	defer w.stop()
	for {
		changed := c.db.watch.Changed()
		v, now := c.db.watch.View(), c.db.watch.Now()
		roster := c.db.roster.Load()
		if err := c.resolve(roster); err != nil {
			return err
		}
		if c.req.Target == route.ToNode && roster.at(v, c.req.Node) == nil {
			continue // it is joining: there is a view with it at once
		}
		if err := c.reconsider(v); err != nil {
			return err
		}
		c.demand(ctx, v, now)
		c.req.Fit = 0
		if v.Subscribers != 0 {
			c.req.Fit = c.fit(v)
		}
		d := route.Decide(v, &c.req, load{c.db}, now)
		if c.withheld {
			c.would = d
			d, _ = route.Withhold(v, &c.req, d)
		}
		switch d.Action {
		case route.Go:
			n := roster.at(v, d.Node)
			if n == nil {
				continue // it is leaving: there is a newer view, or will be at once
			}
			if d.Reason == route.Named && v.Nodes[d.Node].Role == topology.Subscriber {
				if err := c.admissible(v, n); err != nil {
					return err
				}
			}
			if !c.admit(d.Reason) {
				admitted, err := w.spill(ctx, changed, now)
				if err != nil {
					return err
				}
				if !admitted {
					continue
				}
			}
			c.view, c.node, c.reason = v, n, d.Reason
			c.decision = newDecision(v, d, now)
			c.decision.Waited = c.waited
			if d.Reason == route.Shadow {
				c.decision.WouldReason = Reason(c.would.Reason.String())
				c.decision.WouldNode = nodeName(v, c.would.Node)
			}
			return nil
		case route.Wait:
			if c.waitSince == 0 {
				c.waitSince = now
			}
			if c.req.WaitLeft <= 0 {
				return c.nowhere(v, d)
			}
			if err := w.wait(ctx, d.Watch, changed, c.req.WaitLeft); err != nil {
				return err
			}
			c.req.HasWaited = true
		default:
			if d.Reason != route.NoPrimary {
				return c.nowhere(v, d)
			}
			left, err := w.queue(now)
			if err != nil {
				return fmt.Errorf("%w, and %d calls wait for one already", c.nowhere(v, d), c.db.options.FailoverQueue)
			}
			if left <= 0 {
				return c.nowhere(v, d)
			}
			switch err := w.wait(ctx, d.Watch, changed, left); {
			case err == ErrClosed:
				return err
			case err != nil:
				return fmt.Errorf("%w: %w", c.nowhere(v, d), err)
			}
		}
	}
}

// resolve finds the node or the group that the caller named.
func (c *call) resolve(r *roster) error {
	if c.group != "" {
		return c.resolveGroup(r)
	}
	if c.req.Target != route.ToNode {
		return nil
	}
	n := r.named(c.named)
	if n == nil || n.left.Load() {
		return unknownNode(c.named, r)
	}
	c.req.Node = n.place
	return nil
}

func unknownNode(name string, r *roster) error {
	return fmt.Errorf("%w %q: the nodes are %s", ErrUnknownNode, name, strings.Join(r.names(), ", "))
}

// demand fills in what changes while a call waits.
func (c *call) demand(ctx context.Context, v *topology.View, now time.Duration) {
	switch {
	case c.state != nil:
		c.state.demand(&c.req, v)
	case c.req.Level != route.Eventual:
		c.req.Writes = c.db.own.Load()
	}
	c.req.Trial = c.db.tryout(v, c.req.Random, now)
	c.req.WaitLeft = 0
	if c.state == nil && c.req.Target != route.ToNode {
		return // a call outside a session is not worth a wait: the primary will do
	}
	c.req.WaitLeft = c.db.options.WaitBudget
	if c.waitSince != 0 {
		c.req.WaitLeft -= now - c.waitSince
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.req.WaitLeft = min(c.req.WaitLeft, time.Until(deadline))
	}
}

// backoff spaces attempts at a primary that answers the watcher and not the
// caller.
func backoff(failures int) time.Duration {
	return time.Millisecond << min(failures, 7)
}

// reconsider lets the call go to a primary that failed it before, once a probe
// sent later says that the node is well.
func (c *call) reconsider(v *topology.View) error {
	if v.Primary == topology.NoNode {
		return nil
	}
	n, bit := &v.Nodes[v.Primary], uint64(1)<<uint(v.Primary)
	if c.req.Tried&bit == 0 || n.Observed < c.failedAt+backoff(c.failures) {
		return nil
	}
	if c.refused && c.node.id == n.ID && c.view.Nodes[c.node.place].Incarnation == n.Incarnation {
		// It is the primary, and it means it: default_transaction_read_only.
		return c.lastErr
	}
	c.req.Tried &^= bit
	return nil
}

// admit takes a place for a read that goes to the primary because replicas
// lag. It reports false when there is none.
func (c *call) admit(why route.Reason) bool {
	if c.db.spill == nil || c.withheld || why != route.Lagging && why != route.TooStale {
		return true
	}
	select {
	case c.db.spill <- struct{}{}:
		c.spilled = true
		return true
	default:
		return false
	}
}

// nowhere is the error for a call that cannot be placed.
func (c *call) nowhere(v *topology.View, d route.Decision) error {
	c.db.stat.decided(d.Reason)
	if c.state != nil {
		c.state.session.record(newDecision(v, d, 0))
	}
	switch d.Reason {
	case route.SplitBrain:
		return fmt.Errorf("%w: stop one of them", ErrSplitBrain)
	case route.NodeDown:
		return fmt.Errorf("%w: node %q: %w", ErrNodeDown, v.Nodes[d.Node].Name, cmp.Or(c.lastErr, v.Nodes[d.Node].Err, errSilent))
	case route.Overtaken:
		return fmt.Errorf("%w: node %q: another node was promoted since, and what is written there would be lost: make it follow",
			ErrNodeDown, v.Nodes[d.Node].Name)
	case route.OutsideGroup:
		err := fmt.Errorf("%w in group %q", ErrNoFreshReplica, c.group)
		if c.lastErr != nil {
			err = fmt.Errorf("%w: %w", err, c.lastErr)
		}
		return err
	case route.NotFresh:
		err := fmt.Errorf("%w: node %q has not caught up within %v", ErrNoFreshReplica, v.Nodes[d.Node].Name, c.db.options.WaitBudget)
		if why := v.Nodes[d.Node].Err; why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
		return err
	}
	err := ErrNoPrimary
	if c.req.Write == route.ReasonNone {
		err = fmt.Errorf("%w, and %w", ErrNoFreshReplica, ErrNoPrimary)
	}
	if c.lackSince != 0 {
		err = fmt.Errorf("%w after waiting %v", err, (c.db.watch.Now() - c.lackSince).Round(time.Millisecond))
	}
	if c.lastErr != nil {
		err = fmt.Errorf("%w: %w", err, c.lastErr)
	}
	return err
}

// errSilent stands for a node of which nothing is known.
var errSilent = errors.New("it does not answer")

// waiter holds what a call claims while it waits.
type waiter struct {
	call      *call
	timer     *time.Timer
	attended  uint64
	attention watch.Attention
	queued    bool
}

// wait returns when the view has changed or d is over. Meanwhile the nodes of
// the set are probed as often as may be.
func (w *waiter) wait(ctx context.Context, set uint64, changed <-chan struct{}, d time.Duration) error {
	if set != w.attended {
		attention := w.call.db.watch.Attend(set)
		w.attention.Leave()
		w.attended, w.attention = set, attention
	}
	began := w.call.db.watch.Now()
	defer func() { w.call.waited += w.call.db.watch.Now() - began }()
	select {
	case <-changed:
	case <-w.after(d):
	case <-w.call.db.closed:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// spill waits for a place at the primary, or until the view has changed: a
// place becomes free with the call that holds it, which need not change the
// view.
func (w *waiter) spill(ctx context.Context, changed <-chan struct{}, now time.Duration) (admitted bool, err error) {
	c := w.call
	if c.crowdSince == 0 {
		c.crowdSince = now
	}
	left := c.db.options.SpillWait - (now - c.crowdSince)
	if left <= 0 {
		return false, fmt.Errorf("%w, and %d reads are at the primary for that already", ErrNoFreshReplica, cap(c.db.spill))
	}
	began := c.db.watch.Now()
	defer func() { c.waited += c.db.watch.Now() - began }()
	select {
	case c.db.spill <- struct{}{}:
		c.spilled = true
		return true, nil
	case <-changed:
	case <-w.after(left):
	case <-c.db.closed:
		return false, ErrClosed
	case <-ctx.Done():
		return false, fmt.Errorf("%w, and %d reads are at the primary for that already: %w", ErrNoFreshReplica, cap(c.db.spill), context.Cause(ctx))
	}
	return false, nil
}

// after returns a channel that gets a value when d is over.
func (w *waiter) after(d time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	return w.timer.C
}

// queue takes a place among the calls that wait for a primary, and returns how
// long the call may still wait.
func (w *waiter) queue(now time.Duration) (time.Duration, error) {
	c, o := w.call, &w.call.db.options
	if c.lackSince == 0 {
		c.lackSince = now
	}
	if !w.queued {
		w.queued = true
		if c.db.queued.Add(1) > int64(o.FailoverQueue) {
			return 0, ErrNoPrimary
		}
	}
	return o.FailoverWait - (now - c.lackSince), nil
}

func (w *waiter) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.queued {
		w.call.db.queued.Add(-1)
	}
	w.attention.Leave()
}
