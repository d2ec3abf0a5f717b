package pgtide

import (
	"fmt"
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// Role is what a node does in its cluster, as the node itself last said.
type Role string

const (
	RoleUnknown Role = "unknown" // it has not answered yet
	RolePrimary Role = "primary" // it accepts writes
	RoleReplica Role = "replica" // a physical standby

	// RoleSubscriber is a server of its own that logical replication keeps up to
	// date, see [Node.Subscription].
	RoleSubscriber Role = "subscriber"
)

func roleOf(r topology.Role) Role {
	switch r {
	case topology.Primary:
		return RolePrimary
	case topology.Replica:
		return RoleReplica
	case topology.Subscriber:
		return RoleSubscriber
	}
	return RoleUnknown
}

// Reason says why a call went where it went, or why it could not go. Its text
// is fit for logs and metric labels.
type Reason string

// To the primary:
const (
	ReasonWrite        Reason = "write"         // the statement writes, or may
	ReasonSessionBound Reason = "session_bound" // the statement acts on the server session
	ReasonUnclassified Reason = "unclassified"  // the statement was not understood
	ReasonTransaction  Reason = "transaction"   // a transaction or connection that may write
	ReasonForced       Reason = "forced"        // OnPrimary
	ReasonStrong       Reason = "strong"        // consistency level Strong
	ReasonShadow       Reason = "shadow"        // a replica's, by Decision.WouldNode, but for Options.Shadow or ReadShare
	ReasonNoReplica    Reason = "no_replica"    // no replica is configured, or none is up
	ReasonUnpublished  Reason = "unpublished"   // no subscriber has all that the statement names, and there is no replica
	ReasonLagging      Reason = "lagging"       // no replica has what the session must see
	ReasonTooStale     Reason = "too_stale"     // no replica is fresh enough
	ReasonUnsampled    Reason = "unsampled"     // the position of a write or read is not known yet
	ReasonUnproven     Reason = "unproven"      // a failover nobody here saw lies between the token and now
	ReasonLostWrite    Reason = "lost_write"    // what the session wrote was lost by a failover
	ReasonRefused      Reason = "refused"       // a replica refused the statement
	ReasonElsewhere    Reason = "elsewhere"     // the replicas failed this call
)

// To a replica:
const (
	ReasonFresh  Reason = "fresh"  // proven to have what the session must see
	ReasonSticky Reason = "sticky" // the same, and the session read from it last
	ReasonWaited Reason = "waited" // the same, after waiting for it
	ReasonAny    Reason = "any"    // consistency level Eventual
	ReasonTrial  Reason = "trial"  // proven fresh; ejected for being slow, and tried again
)

// To a node the caller chose:
const (
	ReasonNamed  Reason = "named"  // OnNode
	ReasonPinned Reason = "pinned" // the node of the open transaction or connection
)

// Nowhere:
const (
	ReasonNoPrimary  Reason = "no_primary"  // nothing accepts writes
	ReasonSplitBrain Reason = "split_brain" // two nodes do, and cannot be ordered
	ReasonNodeDown   Reason = "node_down"   // the named node does not answer
	ReasonNotFresh   Reason = "not_fresh"   // the named node lacks what the session must see
	ReasonOvertaken  Reason = "overtaken"   // the named node is a primary that a promotion has left behind

	ReasonOutsideGroup Reason = "outside_group" // no replica of the group can serve the read, and FallbackNone holds
)

// Decision is where one attempt at a call went, and why.
type Decision struct {
	// Node is the node's name; empty when there was nowhere to go.
	Node   string `json:"node"`
	Role   Role   `json:"role"`
	Reason Reason `json:"reason"`
	// Detail says what about the statement decided, when the statement did.
	Detail string `json:"detail,omitempty"`
	// Note is what [WithNote] said.
	Note string `json:"note,omitempty"`
	// Staleness bounds how old the node's data was when the call was sent.
	// It is zero for a primary, and -1 when it is not known.
	Staleness time.Duration `json:"staleness_ns"`
	// Waited is how long the call waited before it was sent.
	Waited time.Duration `json:"waited_ns"`
	// WouldNode and WouldReason are where a read with [ReasonShadow] would have
	// gone, and why. No node means that it would have waited for one, or failed.
	WouldNode   string `json:"would_node,omitempty"`
	WouldReason Reason `json:"would_reason,omitempty"`
	// Attempt counts from 1; more means that earlier attempts failed in a way
	// that made it safe to try again.
	Attempt int `json:"attempt"`
}

// String is one line for a log.
func (d Decision) String() string {
	s := fmt.Sprintf("%s (%s): %s", d.Node, d.Role, d.Reason)
	if d.Node == "" {
		s = "nowhere: " + string(d.Reason)
	}
	if d.Detail != "" {
		s += ", " + d.Detail
	}
	if (d.Role == RoleReplica || d.Role == RoleSubscriber) && d.Staleness >= 0 {
		s += fmt.Sprintf(", at most %v stale", d.Staleness.Round(time.Millisecond))
	}
	switch {
	case d.WouldNode != "":
		s += fmt.Sprintf(", would go to %s: %s", d.WouldNode, d.WouldReason)
	case d.WouldReason == ReasonOutsideGroup:
		s += fmt.Sprintf(", would fail: %s", d.WouldReason)
	case d.WouldReason != "":
		s += fmt.Sprintf(", would wait: %s", d.WouldReason)
	}
	if d.Waited > 0 {
		s += fmt.Sprintf(", waited %v", d.Waited.Round(10*time.Microsecond))
	}
	if d.Note != "" {
		s += " (" + d.Note + ")"
	}
	return s
}

func newDecision(v *topology.View, d route.Decision, now time.Duration) Decision {
	out := Decision{Reason: Reason(d.Reason.String()), Role: RoleUnknown, Staleness: -1}
	if d.Node == topology.NoNode {
		return out
	}
	n := &v.Nodes[d.Node]
	out.Node, out.Role = n.Name, roleOf(n.Role)
	if age, known := n.Staleness(now); known {
		out.Staleness = age
	}
	return out
}
