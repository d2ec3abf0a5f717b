package pgtide

import (
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

// NodeStatus is what is known of a node.
type NodeStatus struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// State is up, down, foreign (of another cluster, or with what a failover has
	// lost) or unseen.
	State string `json:"state"`
	// Writable says that this is the node that writes go to.
	Writable bool   `json:"writable"`
	Timeline uint32 `json:"timeline"`
	// LSN is the replay position of a replica, the insert position of a primary. Of a
	// subscriber it is the primary's position up to which it is known to have
	// everything, 0/0 while that is not known.
	LSN string `json:"lsn"`
	// Staleness bounds how old a replica's data is; -1 is not known.
	Staleness time.Duration `json:"staleness_ns"`
	Paused    bool          `json:"replay_paused"`
	// Latency is how long the reads it served as a replica took lately, on
	// average; zero is not known.
	Latency time.Duration `json:"latency_ns"`
	// Ejected says that reads are kept off it because it is much slower than the
	// others, Held because it comes and goes.
	Ejected bool `json:"ejected"`
	Held    bool `json:"held"`
	// Pooled says that a pooler was found in front of it, such as PgBouncer.
	Pooled  bool `json:"pooled"`
	Version int  `json:"server_version_num"`
	// Err is why the node is not up, or why a subscriber that is does not get on. It may name hosts and users, no passwords.
	Err string `json:"error,omitempty"`
}

// Nodes returns the status of all nodes as last observed.
func (db *DB) Nodes() []NodeStatus {
	v, now := db.watch.View(), db.watch.Now()
	out := make([]NodeStatus, 0, len(v.Nodes))
	for i := range v.Nodes {
		if v.Nodes[i].State != topology.Gone {
			out = append(out, db.nodeStatus(v, i, now))
		}
	}
	return out
}

func (db *DB) nodeStatus(v *topology.View, i int, now time.Duration) NodeStatus {
	n := &v.Nodes[i]
	s := NodeStatus{
		Name:      n.Name,
		Role:      roleOf(n.Role),
		State:     n.State.String(),
		Writable:  i == v.Primary,
		Timeline:  n.Position.Timeline,
		LSN:       n.Position.LSN.String(),
		Staleness: -1,
		Paused:    n.Paused,
		Version:   n.Version,
		Latency:   n.Latency,
		Ejected:   n.Ejected,
		Held:      n.Held,
	}
	if node := db.roster.Load().at(v, i); node != nil {
		s.Pooled = node.pooling.found.Load()
	}
	if age, known := n.Staleness(now); known {
		s.Staleness = age
	}
	if n.Err != nil {
		s.Err = n.Err.Error()
	}
	return s
}

// Writable reports whether there is a node that accepts writes, as last observed.
// It asks nobody.
func (db *DB) Writable() bool {
	v := db.watch.View()
	return v.Primary != topology.NoNode && !v.SplitBrain
}

// SystemID returns the system identifier of the cluster, or zero if the role
// may not ask for it.
func (db *DB) SystemID() uint64 { return db.watch.View().SystemID }

// Stat is a snapshot of what a [DB] has done since it was opened.
type Stat struct {
	Nodes []NodeStat
	// Decisions counts attempts by reason.
	Decisions map[Reason]int64
	// Would counts the attempts with [ReasonShadow] by the reason for which a
	// replica would have served them, or been waited for.
	Would map[Reason]int64
	// Retries counts attempts that failed and were made again.
	Retries int64
	// OutcomeUnknown counts writes whose fate nobody knows.
	OutcomeUnknown int64
	// WritesLost counts sessions that a failover took writes from.
	WritesLost int64
	// Guarded counts writes that a [Guard] has met.
	Guarded int64
	// TokensDropped counts tokens that asked for what the cluster never had.
	TokensDropped int64
	// Discoveries counts how often the nodes were asked for while there is
	// [Options.Discover], DiscoveryErrors how often that failed.
	Discoveries, DiscoveryErrors int64
}

// NodeStat is the part of [Stat] about one node.
type NodeStat struct {
	Name     string
	Pool     *pgxpool.Stat
	InFlight int64 // calls being served
	Would    int64 // calls that would have come here, of those in Stat.Would
	Probes   int64 // looks at the node
	// Conflicts counts the calls that the node cancelled because replaying the
	// log needed what they were reading.
	Conflicts int64
}

// Stat returns a snapshot of db's counters.
func (db *DB) Stat() *Stat {
	s := &Stat{
		Decisions:      map[Reason]int64{},
		Would:          map[Reason]int64{},
		Retries:        db.stat.retries.Load(),
		OutcomeUnknown: db.stat.unknown.Load(),
		WritesLost:     db.stat.lost.Load(),
		Guarded:        db.stat.guarded.Load(),
		TokensDropped:  db.stat.futureTokens.Load(),

		Discoveries:     db.stat.discoveries.Load(),
		DiscoveryErrors: db.stat.discoveryErrors.Load(),
	}
	for r := range db.stat.decisions {
		if n := db.stat.decisions[r].Load(); n > 0 {
			s.Decisions[Reason(route.Reason(r).String())] = n
		}
		if n := db.stat.would[r].Load(); n > 0 {
			s.Would[Reason(route.Reason(r).String())] = n
		}
	}
	for _, n := range db.roster.Load().nodes() {
		s.Nodes = append(s.Nodes, NodeStat{
			Name: n.name(), Pool: n.pool.Stat(), InFlight: n.inFlight.Load(), Would: n.would.Load(),
			Probes: db.watch.Probes(n.place), Conflicts: n.conflicts.Load(),
		})
	}
	return s
}

// counters are what Stat is made of.
type counters struct {
	decisions    [route.Reasons]atomic.Int64
	would        [route.Reasons]atomic.Int64
	retries      atomic.Int64
	unknown      atomic.Int64
	lost         atomic.Int64
	guarded      atomic.Int64
	futureTokens atomic.Int64

	discoveries     atomic.Int64
	discoveryErrors atomic.Int64
}

func (c *counters) decided(r route.Reason) { c.decisions[r].Add(1) }

// wouldBe counts d, where a call would have gone as of v.
func (db *DB) wouldBe(v *topology.View, d route.Decision) {
	db.stat.would[d.Reason].Add(1)
	if d.Action != route.Go {
		return
	}
	if n := db.roster.Load().at(v, d.Node); n != nil {
		n.would.Add(1)
	}
}
