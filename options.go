package pgtide

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/topology"
)

// Defaults of [Options].
const (
	DefaultConsistency   = ReadYourWrites
	DefaultMaxStaleness  = 10 * time.Second
	DefaultWaitBudget    = 100 * time.Millisecond
	DefaultFailoverWait  = 10 * time.Second
	DefaultFailoverQueue = 1000
	DefaultProbeInterval = 200 * time.Millisecond
	DefaultProbeTimeout  = time.Second

	DefaultDiscoverInterval = 10 * time.Second
	DefaultSlowStart        = 5 * time.Second
	DefaultEjectFactor      = 4
	DefaultKeepShare        = 0.5
)

// MaxNodes is the most nodes a [DB] can have.
const MaxNodes = topology.MaxNodes

// Options configure a [DB]. Only one of DSN, Nodes and Discover must be set.
type Options struct {
	// DSN names all nodes at once, as a URL or keywords with several hosts:
	// postgres://app@a,b:5433,c/shop. Each node is called by its host, with its
	// port where hosts repeat. Everything else that pgxpool.ParseConfig knows
	// holds for each node by itself, pool_max_conns too; connect_timeout defaults
	// to five seconds. Roles are asked of the servers: target_session_attrs is
	// ignored.
	//
	// Parameters set the fields below that the program leaves zero, and a
	// duration, factor or share of reads of zero means none: pgtide_consistency
	// (as [ParseConsistency] reads it), pgtide_max_staleness, pgtide_max_lag (in
	// bytes), pgtide_wait_budget, pgtide_spill_limit, pgtide_spill_wait,
	// pgtide_failover_wait, pgtide_failover_queue, pgtide_balancing (least_loaded
	// or round_robin), pgtide_zone, pgtide_slow_start, pgtide_eject_factor,
	// pgtide_keep_share, pgtide_probe_interval, pgtide_probe_timeout,
	// pgtide_degraded, pgtide_shadow and pgtide_read_share. The scheme pgtide://
	// is the same as postgres://.
	DSN string
	// Nodes names the nodes one by one, instead of DSN.
	Nodes []Node
	// Discover finds the nodes, instead of DSN and Nodes, and again while db runs.
	// It is asked each DiscoverInterval, and sooner when a node is missing.
	Discover Discoverer
	// DiscoverInterval defaults to [DefaultDiscoverInterval].
	DiscoverInterval time.Duration
	// Degraded lets [Open] return although no node is a primary, or none answers
	// at all: calls then wait as in a failover. Passwords and the like that no
	// waiting can mend are errors all the same.
	Degraded bool

	// Consistency is what reads see unless their context says otherwise.
	// Defaults to [DefaultConsistency].
	Consistency Consistency
	// MaxStaleness keeps reads off replicas whose data is older than this,
	// whatever their consistency, as long as there is a primary to read from
	// instead. Defaults to [DefaultMaxStaleness]; negative sets no limit.
	MaxStaleness time.Duration
	// MaxLag keeps reads off replicas that are more than so many bytes of WAL
	// behind the primary, as MaxStaleness does. Zero sets no limit.
	MaxLag int64
	// WaitBudget is how long a read of a session may wait for a replica that is
	// expected to catch up within that time, before it goes to the primary.
	// Defaults to [DefaultWaitBudget]; negative never waits.
	WaitBudget time.Duration
	// SpillLimit is how many reads may be at the primary at once because
	// replicas lag: so that slow replicas do not take the primary with them.
	// More wait for a place or for a replica, at most SpillWait.
	// Defaults to half of the primary's pool; negative sets no limit.
	SpillLimit int
	// SpillWait is how long a read waits for a place at the primary before it
	// fails with [ErrNoFreshReplica]. Defaults to FailoverWait; negative fails at
	// once.
	SpillWait time.Duration
	// FailoverWait is how long a call waits for a primary when there is none, or
	// for a place at it.
	// Defaults to [DefaultFailoverWait]; negative never waits.
	FailoverWait time.Duration
	// FailoverQueue is how many calls may wait so at once; more fail at once.
	// Defaults to [DefaultFailoverQueue].
	FailoverQueue int

	// Balancing is how reads are spread over the replicas that may serve them.
	// Defaults to [LeastLoaded].
	Balancing Balancing
	// Zone is where this program runs, see [Node.Zone]. Empty is near to all.
	Zone string
	// SlowStart is how long a replica that has just come back takes to get its
	// full share of the reads: its caches are cold. Defaults to
	// [DefaultSlowStart]; negative gives it at once.
	SlowStart time.Duration
	// EjectFactor is how many times as long as the median of all replicas the
	// calls of one must take for reads to be kept off it. A few go there all the
	// same, to see whether it is better. Calls of less than two milliseconds are
	// never too slow. Defaults to [DefaultEjectFactor]; negative ejects none.
	EjectFactor float64
	// KeepShare is the share of the replicas that are never ejected, however slow
	// they are. Defaults to [DefaultKeepShare].
	KeepShare float64

	// Shadow sends every read to the primary and only counts where it would have
	// gone: in [Decision], in [Stat] and to the hooks. It is how to see what
	// replicas would take before they do. A read that [OnNode] sends to a node
	// goes there all the same. See [WithReadShare] for a part of the calls.
	Shadow bool
	// ReadShare is the share of the reads fit for replicas that go there, for a
	// gradual roll-out: the others go to the primary, as with Shadow. From 0 to
	// 1; zero means all of them.
	ReadShare float64

	// GroupFallback is where reads of [OnGroup] go when no replica of their group
	// can serve them. Defaults to [FallbackReplicas].
	GroupFallback Fallback
	// Guard says what becomes of a write outside [AllowWrites]. Defaults to
	// [GuardOff].
	Guard Guard
	// GuardReads has Guard also look at reads that the program sends to the
	// primary: by [OnPrimary], [Strong], or a transaction or connection that may
	// write. What goes there because replicas lag does not count.
	GuardReads bool

	// ProbeInterval is the time between two looks at a node. Defaults to
	// [DefaultProbeInterval].
	ProbeInterval time.Duration
	// ProbeTimeout is how long a look may take before the node counts as down,
	// connecting included. Defaults to [DefaultProbeTimeout].
	ProbeTimeout time.Duration

	// Configure, if set, may change the configuration of a node's pool before it
	// is made: its size, tracers, types. The config's hooks are kept; pgtide
	// adds its own.
	Configure func(node string, config *pgxpool.Config) error
	Hooks     Hooks

	_ struct{} // field names are required
}

func (o Options) withDefaults() Options {
	o.Consistency = cmp.Or(o.Consistency, DefaultConsistency)
	o.MaxStaleness = duration(o.MaxStaleness, DefaultMaxStaleness)
	o.WaitBudget = duration(o.WaitBudget, DefaultWaitBudget)
	o.FailoverWait = duration(o.FailoverWait, DefaultFailoverWait)
	o.FailoverQueue = cmp.Or(o.FailoverQueue, DefaultFailoverQueue)
	o.ProbeInterval = cmp.Or(o.ProbeInterval, DefaultProbeInterval)
	o.ProbeTimeout = cmp.Or(o.ProbeTimeout, DefaultProbeTimeout)
	o.SpillWait = duration(o.SpillWait, o.FailoverWait)
	o.DiscoverInterval = cmp.Or(o.DiscoverInterval, DefaultDiscoverInterval)
	o.SlowStart = duration(o.SlowStart, DefaultSlowStart)
	o.EjectFactor = max(0, cmp.Or(o.EjectFactor, DefaultEjectFactor))
	o.KeepShare = cmp.Or(o.KeepShare, DefaultKeepShare)
	o.ReadShare = cmp.Or(o.ReadShare, 1)
	if o.Shadow {
		o.ReadShare = 0
	}
	return o
}

// duration makes zero the default and a negative value zero.
func duration(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// validate returns the first thing that is wrong with o, in words.
func (o Options) validate() error {
	switch {
	case o.DSN == "" && len(o.Nodes) == 0 && o.Discover == nil:
		return errors.New("options: no nodes: set DSN, Nodes or Discover")
	case o.DSN != "" && len(o.Nodes) > 0:
		return errors.New("options: both DSN and Nodes are set: set one of them")
	case o.Discover != nil && (o.DSN != "" || len(o.Nodes) > 0):
		return errors.New("options: Discover is set, and DSN or Nodes too: set one of them")
	case o.DiscoverInterval < 0:
		return fmt.Errorf("options: DiscoverInterval %v is negative", o.DiscoverInterval)
	case o.MaxLag < 0:
		return fmt.Errorf("options: MaxLag %d is negative", o.MaxLag)
	case o.Balancing > RoundRobin:
		return fmt.Errorf("options: Balancing %d is none of the ways", o.Balancing)
	case o.EjectFactor != o.EjectFactor || o.EjectFactor > 0 && o.EjectFactor <= 1:
		return fmt.Errorf("options: EjectFactor %v is not more than 1: every replica would be too slow", o.EjectFactor)
	case !(o.KeepShare >= 0 && o.KeepShare <= 1):
		return fmt.Errorf("options: KeepShare %v is not between 0 and 1", o.KeepShare)
	case !o.Consistency.valid():
		return fmt.Errorf("options: Consistency %d is none of the levels", o.Consistency)
	case o.Shadow && o.ReadShare != 0:
		return errors.New("options: both Shadow and ReadShare are set: set one of them")
	case !(o.ReadShare >= 0 && o.ReadShare <= 1):
		return fmt.Errorf("options: ReadShare %v is not between 0 and 1", o.ReadShare)
	case o.GroupFallback > FallbackNone:
		return fmt.Errorf("options: GroupFallback %d is none of the fallbacks", o.GroupFallback)
	case o.Guard > GuardError:
		return fmt.Errorf("options: Guard %d is none of the guards", o.Guard)
	case o.ProbeInterval < 0:
		return fmt.Errorf("options: ProbeInterval %v is negative", o.ProbeInterval)
	case o.ProbeTimeout < 0:
		return fmt.Errorf("options: ProbeTimeout %v is negative", o.ProbeTimeout)
	case o.FailoverQueue < 0:
		return fmt.Errorf("options: FailoverQueue %d is negative", o.FailoverQueue)
	}
	return nil
}
