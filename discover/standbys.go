package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// Defaults of [Standbys].
const (
	DefaultAskTimeout = time.Second
	DefaultKeep       = time.Minute
)

var _ pgtide.Discoverer = (*Standbys)(nil)

// Standbys asks the primary who follows it: pg_stat_replication. It needs
// nothing but the servers, and sees no standby that follows another standby.
//
// The nodes are the primary, at the host and port where it answered, and the
// standbys that stream from it, at the address they come from and the
// primary's own port. Where that is not where they listen, Map says it. A node's
// name is its cluster_name, as that is a standby's application_name unless
// primary_conninfo says otherwise; if it has none, or shares it, its address,
// with the port unless that is 5432. Logical subscribers, pg_receivewal and
// pg_basebackup are no nodes.
//
// The role must be a member of pg_monitor: others see how many follow, but not
// from where, and get an error that says so.
//
// It asks one server at a time, on a connection that it closes at once: those of
// DSN and those it has found. It stops when it has found a primary and all other
// servers follow it. A server that does not is asked too, as it may be the next
// primary: of two, the one on the newer timeline is believed.
//
// Do not copy it after its first use.
type Standbys struct {
	// DSN is that of every node. Its hosts are where to begin.
	DSN string
	// Timeout is how long one server may take to answer, connecting included.
	// Zero means DefaultAskTimeout.
	Timeout time.Duration
	// Keep is how long a server stays a node when the primary no longer reports
	// it: it may be restarting, or on its way to a new primary. Zero means
	// DefaultKeep; negative drops it at once.
	Keep time.Duration
	// BeforeConnect, if set, may change how a server is connected to, such as a
	// password that expires.
	BeforeConnect func(ctx context.Context, config *pgx.ConnConfig) error
	// Map, if set, may change the node made of a server, and leaves it out if it
	// returns false.
	Map func(s Server, n *pgtide.Node) bool

	once sync.Once
	turn chan struct{} // taken by the call under way, which owns the fields below
	seen []sighting
	// known are the connection strings of the nodes of the newest answer, the
	// primary first.
	known []string
}

// Server is the primary or a standby, as the primary reports it.
type Server struct {
	Name    string     // application_name of a standby, cluster_name of the primary
	Address netip.Addr // where it comes from; the zero Addr for a Unix socket: then only Map can say its DSN
	Port    uint16     // the primary's own, whoever this is
	Primary bool
	// State is streaming or catchup, SyncState as in pg_stat_replication. Both
	// are empty for the primary.
	State, SyncState string
}

// sighting is when a server was last reported.
type sighting struct {
	server Server
	at     place // where it is, as far as the report says
	last   time.Time
}

func (s sighting) same(o sighting) bool {
	return s.server.Name == o.server.Name && s.server.Address == o.server.Address
}

// Discover asks the primary. The error when no server is one wraps
// [pgtide.ErrNoPrimary].
func (s *Standbys) Discover(ctx context.Context) ([]pgtide.Node, error) {
	s.once.Do(func() { s.turn = make(chan struct{}, 1) })
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("standbys: wait for another call: %w", context.Cause(ctx))
	}
	nodes, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("standbys: %w", err)
	}
	return nodes, nil
}

func (s *Standbys) discover(ctx context.Context) ([]pgtide.Node, error) {
	t, err := parseTemplate(s.DSN)
	if err != nil {
		return nil, err
	}
	candidates := slices.Clone(s.known)
	for _, p := range t.places() {
		if dsn := t.at(p); !slices.Contains(candidates, dsn) {
			candidates = append(candidates, dsn)
		}
	}
	if len(candidates) == 0 {
		return nil, errors.New("the DSN names no host to begin with")
	}
	var best *report
	var follow []string // the connection strings that best accounts for
	var failed []string
	var errs []error
	for _, dsn := range candidates {
		if ctx.Err() != nil {
			break
		}
		if slices.Contains(follow, dsn) {
			continue
		}
		r, err := s.ask(ctx, dsn)
		switch {
		case err != nil:
			errs, failed = append(errs, err), append(failed, dsn)
		case best == nil || r.timeline > best.timeline:
			best = r
			follow = append(s.strings(t, r.sightings), dsn)
		}
	}
	if best == nil {
		if len(errs) == 0 {
			return nil, context.Cause(ctx)
		}
		// The next call begins with those that this one had no time to ask.
		asked := func(dsn string) bool { return slices.Contains(failed, dsn) }
		s.known = append(slices.DeleteFunc(candidates, asked), failed...)
		return nil, fmt.Errorf("%w among the servers that were asked: %w", pgtide.ErrNoPrimary, errors.Join(errs...))
	}
	if best.err != nil {
		return nil, best.err
	}
	return s.accept(t, best)
}

// accept makes the nodes of a report and of what was seen before it.
func (s *Standbys) accept(t template, r *report) ([]pgtide.Node, error) {
	now := time.Now()
	seen := r.sightings
	for i := range seen {
		seen[i].last = now
	}
	fresh := len(seen)
	keep := cmp.Or(s.Keep, DefaultKeep)
	for _, old := range s.seen {
		if now.Sub(old.last) < keep && !slices.ContainsFunc(seen[:fresh], old.same) {
			// A server that is not reported as a standby may be anything by now.
			old.server.Primary = false
			seen = append(seen, old)
		}
	}
	var nodes []pgtide.Node
	for i, n := range s.nodes(t, seen) {
		if n == nil {
			continue
		}
		other := slices.IndexFunc(nodes, func(o pgtide.Node) bool { return o.DSN == n.DSN || o.Name == n.Name })
		switch {
		case other < 0:
			nodes = append(nodes, *n)
		case i < fresh && nodes[other].DSN == n.DSN:
			return nil, fmt.Errorf("%q and %q would both be at %s: let Map say where each listens", nodes[other].Name, n.Name, seen[i].at)
		case i < fresh:
			return nil, errSameName(n.Name)
		}
	}
	known := make([]string, len(nodes))
	for i, n := range nodes {
		known[i] = n.DSN
	}
	nodes, err := answer(nodes)
	if err != nil {
		return nil, err
	}
	s.seen, s.known = seen, known
	return nodes, nil
}

// strings are the connection strings of the nodes that seen would be.
func (s *Standbys) strings(t template, seen []sighting) []string {
	var all []string
	for _, n := range s.nodes(t, seen) {
		if n != nil {
			all = append(all, n.DSN)
		}
	}
	return all
}

// nodes returns the node of each of seen, nil for those that are none.
func (s *Standbys) nodes(t template, seen []sighting) []*pgtide.Node {
	named := map[string]int{}
	for _, g := range seen {
		named[g.server.Name]++
	}
	nodes := make([]*pgtide.Node, len(seen))
	for i, g := range seen {
		n := &pgtide.Node{Name: g.at.String()}
		if g.at.host != "" {
			n.DSN = t.at(g.at)
		}
		// A standby is called walreceiver when nobody has given it a name.
		if name := g.server.Name; name != "" && name != "walreceiver" && named[name] == 1 {
			n.Name = name
		}
		keep := true
		if s.Map != nil {
			keep = s.Map(g.server, n)
		}
		if keep && n.DSN != "" {
			nodes[i] = n
		}
	}
	return nodes
}
