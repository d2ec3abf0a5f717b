package pgtidetest

import (
	"strings"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// What the test did to a node, in words.
const (
	killed  = "killed by Kill"
	frozen  = "frozen by FreezeNode"
	cut     = "cut by Cut"
	delayed = "delayed by "
)

// Kill ends a node's server and all its processes at once, as a power cut would.
// [Tide.StartNode] starts it again.
func (c *Tide) Kill(node string) { c.t.Helper(); c.fault(keeper.Kill, node, killed) }

// StartNode starts a killed node and returns once it answers and, if it is a
// replica and can, follows its primary.
func (c *Tide) StartNode(node string) { c.t.Helper(); c.fault(keeper.Start, node, "") }

// FreezeNode stops all processes of a node's server: its connections stay open,
// and nothing answers. [Tide.ThawNode] lets it go on. This is a server that hangs;
// for one that lags see [Tide.Freeze].
func (c *Tide) FreezeNode(node string) { c.t.Helper(); c.fault(keeper.Freeze, node, frozen) }

// ThawNode ends FreezeNode.
func (c *Tide) ThawNode(node string) { c.t.Helper(); c.fault(keeper.Thaw, node, "") }

// Cut severs a replica's replication link: it receives nothing more, and answers.
// [Tide.Heal] restores the link.
func (c *Tide) Cut(replica string) { c.t.Helper(); c.fault(keeper.Cut, replica, cut) }

// Heal ends Cut and returns once the replica follows its primary again.
func (c *Tide) Heal(replica string) { c.t.Helper(); c.fault(keeper.Heal, replica, "") }

// Promote makes a replica the primary and the others follow it. The old primary
// is left as it is: kill it before, for a failover, or there are two that take
// writes. [Tide.Rejoin] makes it a replica.
func (c *Tide) Promote(replica string) { c.t.Helper(); c.fault(keeper.Promote, replica, "") }

// Rejoin makes a node a replica of the current primary, with a fresh copy of its
// data.
func (c *Tide) Rejoin(node string) { c.t.Helper(); c.fault(keeper.Rejoin, node, "") }

// fault has the keeper do it, for the servers are its children. The keeper also
// undoes it when the test ends, however that happens.
func (c *Tide) fault(fault, node, state string) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	if err := c.source.Fault(ctx, fault, node); err != nil {
		c.t.Fatalf("pgtidetest: %s: %v", fault, err)
	}
	if conn := c.servers.conns[node]; conn != nil && (fault == keeper.Kill || fault == keeper.Rejoin) {
		conn.Close(ctx)
		delete(c.servers.conns, node)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[node] = state
	if fault == keeper.Promote {
		c.promoted = true
	}
	if again := fault == keeper.Kill || fault == keeper.Promote || fault == keeper.Rejoin; again && !strings.HasPrefix(c.lag[node], delayed) {
		delete(c.lag, node) // replay begins anew
	}
}
