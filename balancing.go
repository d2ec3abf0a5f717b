package pgtide

import (
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// Balancing is how a read is given to one of several replicas that may serve
// it. Whatever it is, a session stays with the replica that it read from last,
// and weights, zones, slow starts and ejection hold.
type Balancing uint8

const (
	// LeastLoaded gives a read to the less loaded of two taken at random: the
	// one where fewer calls are under way, each counted for as long as calls take
	// there.
	LeastLoaded Balancing = Balancing(route.LeastLoaded)
	// RoundRobin gives reads to each replica in turn, busy or not.
	RoundRobin Balancing = Balancing(route.RoundRobin)
)

const (
	// trialShare is one of how many reads may go to an ejected replica, and
	// trialPause the least time between two: no more than a percentile shows.
	trialShare = 128
	trialPause = 250 * time.Millisecond
)

// balance fills in how the call is to be placed.
func (c *call) balance() {
	c.req.Policy = route.Policy(c.db.options.Balancing)
	if c.req.Policy == route.RoundRobin {
		c.req.Turn = c.db.turn.Add(1)
	}
}

// tryout reports whether a call is to find out about an ejected replica.
func (db *DB) tryout(v *topology.View, random uint64, now time.Duration) bool {
	if v.Ejected == 0 || random%trialShare != 0 {
		return false
	}
	last := db.trial.Load()
	return now-time.Duration(last) >= trialPause && db.trial.CompareAndSwap(last, int64(now))
}

// time counts how long a read took until its first answer.
func (c *call) time() {
	if c.began == 0 {
		return
	}
	c.node.busy.Add(int64(c.db.watch.Now() - c.began))
	c.node.served.Add(1)
	c.began = 0
}
