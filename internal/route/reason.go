package route

// Reason says why a call went where it went, or why it could not go.
type Reason uint8

const (
	ReasonNone Reason = iota

	// To the primary. Of those from NoReplica to LostWrite the greatest found
	// among the replicas is told: it says most.
	Write        // the statement writes, or may
	SessionBound // the statement acts on the server session
	Unclassified // the statement was not understood
	Transaction  // a transaction that may write
	Forced       // the caller asked for the primary
	Strong       // the consistency level asks for the primary
	Shadow       // a replica would serve it, but the caller does not want that yet
	NoReplica    // no replica is configured, or none is up
	Unpublished  // no subscriber has all that the statement names, and there is no replica
	Lagging      // no replica has what the session must see
	TooStale     // no replica is fresh enough
	Unsampled    // a write returned so recently that its position is not known yet
	Unproven     // a failover nobody here saw lies between the token and now
	LostWrite    // what the session wrote was lost by a failover
	Refused      // a replica refused the statement
	Elsewhere    // replicas failed the call

	// To a replica.
	Fresh  // it has proven to have what the session must see
	Sticky // the same, and the session read from it last
	Waited // the same, after waiting for it
	Any    // the consistency level asks for no proof
	Trial  // it was ejected for being slow, and is tried again

	// To a node the caller chose.
	Named  // by name
	Pinned // by an open transaction or an acquired connection

	// Nowhere.
	NoPrimary  // nothing accepts writes
	SplitBrain // two nodes accept writes and cannot be ordered
	NodeDown   // the named node does not answer
	NotFresh   // the named node lacks what the session must see
	Overtaken  // the named node is a primary that a promotion has left behind
	// No replica of the group has what the session must see, and nobody else may
	// serve the read.
	OutsideGroup
)

var reasons = [...]string{
	ReasonNone:   "none",
	Write:        "write",
	SessionBound: "session_bound",
	Unclassified: "unclassified",
	Transaction:  "transaction",
	Forced:       "forced",
	Strong:       "strong",
	Shadow:       "shadow",
	NoReplica:    "no_replica",
	Unpublished:  "unpublished",
	Lagging:      "lagging",
	TooStale:     "too_stale",
	Unsampled:    "unsampled",
	Unproven:     "unproven",
	LostWrite:    "lost_write",
	Refused:      "refused",
	Elsewhere:    "elsewhere",
	Fresh:        "fresh",
	Sticky:       "sticky",
	Waited:       "waited",
	Any:          "any",
	Trial:        "trial",
	Named:        "named",
	Pinned:       "pinned",
	NoPrimary:    "no_primary",
	SplitBrain:   "split_brain",
	NodeDown:     "node_down",
	NotFresh:     "not_fresh",
	Overtaken:    "overtaken",
	OutsideGroup: "outside_group",
}

// Reasons is how many there are.
const Reasons = len(reasons)

// String returns the reason's code, fit for logs and metrics.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "unknown"
}
