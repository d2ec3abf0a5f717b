package pgtide

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/route"
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
)

// MaxNodes is the most nodes a [DB] can have.
const MaxNodes = route.MaxNodes

// Options configure a [DB]. Only DSN or Nodes must be set.
type Options struct {
	// DSN names all nodes at once, as a URL or keywords with several hosts:
	// postgres://app@a,b:5433,c/shop. Each node is called by its host, with its
	// port where hosts repeat. Everything else that pgxpool.ParseConfig knows
	// holds for each node by itself, pool_max_conns too. Roles are asked of the
	// servers: target_session_attrs is ignored.
	//
	// Parameters set the fields below that the program leaves zero, and a
	// duration or share of zero means none: pgtide_consistency (as [ParseConsistency] reads it),
	// pgtide_max_staleness, pgtide_wait_budget, pgtide_spill_limit,
	// pgtide_failover_wait, pgtide_failover_queue, pgtide_probe_interval,
	// pgtide_probe_timeout, pgtide_shadow and pgtide_read_share. The scheme
	// pgtide:// is the same as postgres://.
	DSN string
	// Nodes names the nodes one by one, instead of DSN.
	Nodes []Node

	// Consistency is what reads see unless their context says otherwise.
	// Defaults to [DefaultConsistency].
	Consistency Consistency
	// MaxStaleness keeps reads off replicas whose data is older than this,
	// whatever their consistency, as long as there is a primary to read from
	// instead. Defaults to [DefaultMaxStaleness]; negative sets no limit.
	MaxStaleness time.Duration
	// WaitBudget is how long a read of a session may wait for a replica that is
	// expected to catch up within that time, before it goes to the primary.
	// Defaults to [DefaultWaitBudget]; negative never waits.
	WaitBudget time.Duration
	// SpillLimit is how many reads may be at the primary at once because
	// replicas lag: so that slow replicas do not take the primary with them.
	// More wait for a place or for a replica, at most FailoverWait.
	// Defaults to half of the primary's pool; negative sets no limit.
	SpillLimit int
	// FailoverWait is how long a call waits for a primary when there is none, or
	// for a place at it.
	// Defaults to [DefaultFailoverWait]; negative never waits.
	FailoverWait time.Duration
	// FailoverQueue is how many calls may wait so at once; more fail at once.
	// Defaults to [DefaultFailoverQueue].
	FailoverQueue int

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

// Node is a server that pgtide may talk to.
type Node struct {
	// Name is how [OnNode], decisions and errors call it. Required, unique.
	Name string
	// DSN is a connection string for this server alone, as pgxpool.ParseConfig
	// reads it. It must name a database.
	DSN string
	// Groups are the names under which [OnGroup] finds the node while it is a
	// replica, such as "analytics".
	Groups []string

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
	case o.DSN == "" && len(o.Nodes) == 0:
		return errors.New("options: no nodes: set DSN or Nodes")
	case o.DSN != "" && len(o.Nodes) > 0:
		return errors.New("options: both DSN and Nodes are set: set one of them")
	case !o.Consistency.valid():
		return fmt.Errorf("options: Consistency %d is none of the levels", o.Consistency)
	case o.Shadow && o.ReadShare != 0:
		return errors.New("options: both Shadow and ReadShare are set: set one of them")
	case !(o.ReadShare >= 0 && o.ReadShare <= 1):
		return fmt.Errorf("options: ReadShare %v is not between 0 and 1", o.ReadShare)
	case slices.ContainsFunc(o.Nodes, func(n Node) bool { return slices.Contains(n.Groups, "") }):
		return errors.New("options: a group of a node has an empty name")
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
