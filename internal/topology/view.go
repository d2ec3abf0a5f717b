package topology

import (
	"time"

	"github.com/pgtide/pgtide/internal/published"
)

// NoNode is the index of no node.
const NoNode = -1

// MaxNodes is how many nodes a view may have: their sets are bit masks.
const MaxNodes = 64

// View is an immutable snapshot of all nodes, as last observed. A View that
// knows nothing comes from a new [Tracker]; in the zero View, Primary is a node.
type View struct {
	// Seq grows by one with each View.
	Seq   uint64
	Nodes []Node
	// Primary is the index of the node that may be written to, or [NoNode].
	Primary int
	// SplitBrain is set when two nodes accept writes and cannot be ordered.
	SplitBrain bool
	SystemID   uint64
	// Timeline is the newest timeline ever seen.
	Timeline uint32
	History  History
	// Floor is a position of the primary sampled after every write counted by
	// Floor.Writes had returned.
	Floor Floor
	// Before is the last Floor of the timeline that the primary was on before.
	Before Floor
	// Newest is the last sample of the primary's position, taken at NewestAt.
	Newest   Position
	NewestAt time.Duration

	// Replicas are the replicas that are up, as a bit mask of their places.
	Replicas uint64
	// Subscribers are the subscribers that are up, Catalogs what they lack.
	Subscribers uint64
	Catalogs    *published.Catalogs
	// Tiers are both in the order in which they are to serve: near ones, then those
	// of other zones, then those that are held or ejected.
	Tiers [Tiers]uint64
	// Ejected are those of both that are.
	Ejected uint64
	// Uneven are those of both whose Share is not 1.
	Uneven uint64
}

// Tiers is how many there are.
const Tiers = 3

// Arrange fills in the sets of nodes that follow from Nodes.
func (v *View) Arrange() {
	v.Replicas, v.Subscribers, v.Tiers, v.Ejected, v.Uneven = 0, 0, [Tiers]uint64{}, 0, 0
	for i := range v.Nodes {
		n, bit := &v.Nodes[i], uint64(1)<<uint(i)
		switch {
		case n.State != Up || !n.Role.Follows():
			continue
		case n.Role == Subscriber:
			v.Subscribers |= bit
		default:
			v.Replicas |= bit
		}
		switch {
		case n.Ejected, n.Held:
			v.Tiers[2] |= bit
		case n.Far:
			v.Tiers[1] |= bit
		default:
			v.Tiers[0] |= bit
		}
		if n.Ejected {
			v.Ejected |= bit
		}
		if n.Share != 1 {
			v.Uneven |= bit
		}
	}
}

// Floor ties a count of writes to a position that covers all of them.
type Floor struct {
	Writes   uint64
	Position Position
}

// Prove says whether node i has everything up to p.
func (v *View) Prove(i int, p Position) Proof {
	n := &v.Nodes[i]
	if n.State != Up {
		return Unknown
	}
	if i == v.Primary && p.Timeline == n.Position.Timeline {
		// The primary has all that was written on its own timeline, also what
		// was written since it was last observed.
		return Satisfied
	}
	if i == v.Primary {
		have := n.Position
		have.LSN = ^LSN(0)
		return v.History.Reaches(have, p)
	}
	proof := v.History.Reaches(n.Position, p)
	if proof == Satisfied && n.Position.Timeline < v.Timeline {
		// The node was left behind by a promotion, or is not able to tell that it
		// followed one (see [Observation.Position]): then its LSN is one of a
		// newer timeline. What it shows counts as far as the newest log has it.
		return v.History.Reaches(Position{v.Timeline, ^LSN(0)}, p)
	}
	return proof
}
