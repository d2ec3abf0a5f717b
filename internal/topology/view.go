package topology

import "time"

// NoNode is the index of no node.
const NoNode = -1

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
