package topology

import "time"

// Role is what a node does in its cluster, as the node itself last said.
type Role uint8

const (
	RoleUnknown Role = iota
	Primary          // out of recovery: accepts writes
	Replica          // a physical standby
	Subscriber       // a server of its own that a logical subscription keeps up to date
)

// Follows reports whether a node gets its data from a primary, and so may serve
// reads in its place.
func (r Role) Follows() bool { return r == Replica || r == Subscriber }

// String returns the role in lower case.
func (r Role) String() string {
	switch r {
	case Primary:
		return "primary"
	case Replica:
		return "replica"
	case Subscriber:
		return "subscriber"
	}
	return "unknown"
}

// State is whether a node can be used at all.
type State uint8

const (
	Unseen  State = iota // no probe has answered yet
	Up                   // the last probe answered
	Down                 // the last probe did not
	Foreign              // it belongs to another cluster and is never used
	Gone                 // it has left: its place in the view is free
	Twin                 // it is the same server as another node, which is used instead
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	case Foreign:
		return "foreign"
	case Gone:
		return "gone"
	case Twin:
		return "twin"
	}
	return "unseen"
}

// Member is a node as its owner describes it.
type Member struct {
	Name string
	// Weight is its share of the reads beside the others'. Zero is one.
	Weight float64
	// Far says that it is in another zone than its readers.
	Far bool
}

// Node is what is known of one server. Times are monotonic offsets on the
// clock of whoever made the observations.
type Node struct {
	Member
	// ID tells nodes apart that had the same place in the view one after the
	// other. It is never zero.
	ID    uint32
	State State
	Role  Role
	// Position is the replay position of a replica, the insert position of a
	// primary. Of a subscriber it is the primary's position up to which it has
	// everything, or none while that is not known.
	Position Position
	// Receive is how far a replica has received the log, replayed or not. A
	// subscriber shows nothing past it.
	Receive LSN
	Paused  bool // replay is paused
	// Incarnation tells two runs of the server apart. Within one, the position
	// never goes back; a restarted replica may show less than it did before.
	Incarnation int64
	SystemID    uint64
	Version     int // as server_version_num: 150018 is 15.18
	Geometry    Geometry

	// Observed is when the last probe that answered was started; all fields
	// above were true at some time after it.
	Observed time.Duration
	// Fresh is a time at which the primary had nothing that this node lacks.
	// It is meaningful only when FreshKnown is set.
	Fresh      time.Duration
	FreshKnown bool
	// Delay is a lower bound on how long the node lately took to replay what
	// the primary had: the estimate used to decide whether to wait for it.
	Delay time.Duration
	// Owes is what the primary had when this run of a server that had been
	// running before, or had not been there, was first seen. Until the node has
	// replayed it, it may lack what every node had. Zero is nothing.
	Owes Position
	// Since is when the node was found up after it had not been.
	Since time.Duration
	// Held keeps reads off a node that comes and goes, as long as others serve.
	Held bool
	// Latency is an average of how long calls took lately; zero is not known.
	Latency time.Duration
	// Ejected keeps reads off a replica that is much slower than the others, as
	// long as they serve.
	Ejected bool
	// Share is how many of the reads that another node gets this one is to get:
	// 1 for the one that is to get most.
	Share float64
	// Misses counts the probes in a row that got no answer in time.
	Misses int
	// Err is why the node is Down or Foreign, or why a subscriber that is Up does
	// not get on.
	Err error
}

// Staleness bounds how old the node's data is at time now. It is not known
// for a replica that was never compared with a primary.
func (n *Node) Staleness(now time.Duration) (d time.Duration, known bool) {
	if n.State != Up {
		return 0, false
	}
	if n.Role == Primary {
		return 0, true
	}
	return now - n.Fresh, n.FreshKnown
}

// Observation is what one probe of one node saw, all of it from one query.
type Observation struct {
	Node int
	// Start is when the probe was sent: what it reports was true later. End is when
	// it was answered.
	Start, End time.Duration
	// Err is set when the probe did not answer; the fields below are then empty.
	// Silent says that nothing came back at all before the deadline.
	Err    error
	Silent bool

	SystemID    uint64
	Incarnation int64
	Role        Role
	// Position has its LSN normalised, see [Geometry.Normalize]. The timeline of
	// a replica may be older than the one it follows, never newer.
	Position Position
	Receive  LSN
	// RecoveryEnd is where the recovery of a primary ended: after a promotion
	// the position at which its timeline began. Zero when unknown.
	RecoveryEnd LSN
	Paused      bool
	Version     int
	Geometry    Geometry
	// Writes is the write counter as it stood before the probe was sent.
	Writes uint64
	// Served counts the calls that the node has answered, and Busy is how long
	// they took together.
	Served uint64
	Busy   time.Duration

	Feed   *Feed   // of a subscriber, whose position is not in Position
	Outlet *Outlet // of a primary that was asked for it
}
