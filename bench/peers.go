package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"

	"github.com/pgtide/pgtide/lab"
)

// peer is a router in one library, against the library without it.
type peer struct {
	Router  string `json:"router"`
	Library string `json:"library"`
	// Read and Insert are calls of real servers, in us.
	Read   pair `json:"read_us"`
	Insert pair `json:"insert_us"`
	// The client's part of them, where servers' answers are replayed, in ns.
	ClientRead   pair `json:"client_read_ns"`
	ClientInsert pair `json:"client_insert_ns"`
	// The same on a driver that does nothing; absent for pgtide, which needs pgx.
	NoopRead   *pair `json:"noop_read_ns,omitempty"`
	NoopInsert *pair `json:"noop_insert_ns,omitempty"`
	// Stale is how many of Reads reads after a write, while replicas do not
	// apply, did not see it.
	Stale int `json:"stale"`
	Reads int `json:"reads_after_writes"`
}

// pair is what a call takes with the router and without.
type pair struct {
	Routed float64 `json:"routed"`
	Plain  float64 `json:"plain"`
	Ratio  float64 `json:"ratio"` // the median of rounds
	// Allocations of one call; not counted with real servers.
	RoutedAllocs float64 `json:"routed_allocs,omitempty"`
	PlainAllocs  float64 `json:"plain_allocs,omitempty"`
}

// readsAfterWrites is how often each router is asked for what was just written.
const readsAfterWrites = 200

// peerBlocks is more than blocks: each side of these has one connection only.
const peerBlocks = 3 * blocks

type peers struct {
	found  []peer
	lastID int64 // of rows inserted by id
}

func newPeers() *peers {
	p := &peers{lastID: 1 << 40}
	for _, c := range contenders {
		p.found = append(p.found, peer{Router: c.router, Library: c.library})
	}
	return p
}

// operation is what is compared.
type operation struct {
	name string
	n    int // calls a round
	call func(library) func(context.Context) error
	of   func(*peer) *pair
}

var (
	reading = operation{"primary-key read", 64, func(l library) func(context.Context) error {
		return func(ctx context.Context) error {
			ok, err := l.read(ctx, 1)
			if err == nil && !ok {
				err = fmt.Errorf("row 1: %w", sql.ErrNoRows)
			}
			return err
		}
	}, func(p *peer) *pair { return &p.Read }}
	inserting = operation{"insert", 48, func(l library) func(context.Context) error {
		return func(ctx context.Context) error { return l.insert(ctx, 0) }
	}, func(p *peer) *pair { return &p.Insert }}
)

func (c contender) name(o operation) string {
	return fmt.Sprintf("%s over %s: %s", c.library, c.router, o.name)
}

// calls compares the routers on real servers.
func (p *peers) calls(ctx context.Context, r *report, s servers, o operation) error {
	order, found, err := inBlocks(ctx, r, peerBlocks, "peers", func(ctx context.Context) ([]comparison, func(), error) {
		u, err := s.under(ctx)
		if err != nil {
			return nil, nil, err
		}
		var cases []comparison
		for _, c := range contenders {
			routed, plain, err := c.both(u)
			if err != nil {
				u.close()
				return nil, nil, err
			}
			cases = append(cases, at(1, o.n, c.name(o), o.call(routed), o.call(plain)))
		}
		return cases, u.close, nil
	})
	if err != nil {
		return err
	}
	for i, c := range order {
		*o.of(&p.found[i]) = found[c.name].pair(o.n)
		if contenders[i].router == "pgtide" {
			found[c.name].add(r, c, contenders[i].library)
		}
	}
	return nil
}

func (s *samples) pair(n int) pair {
	return pair{Routed: median(s.ours) / float64(n), Plain: median(s.theirs) / float64(n), Ratio: median(s.ratios)}
}

// client measures the client's part: on replayed answers and on the driver that
// does nothing.
func (p *peers) client(ctx context.Context, r *report, s servers) error {
	s.replay = &dialer{made: &sync.Map{}}
	u, err := s.under(ctx)
	if err != nil {
		return err
	}
	defer u.close()
	noop := noopUnder()
	defer noop.close()
	for i, c := range contenders {
		f := &p.found[i]
		routed, plain, err := c.both(u)
		if err != nil {
			return err
		}
		if f.ClientRead, err = reading.alone(ctx, r, routed, plain); err != nil {
			return fmt.Errorf("%s: %w", c.name(reading), err)
		}
		if f.ClientInsert, err = inserting.alone(ctx, r, routed, plain); err != nil {
			return fmt.Errorf("%s: %w", c.name(inserting), err)
		}
		if c.router == "pgtide" {
			continue
		}
		if routed, plain, err = c.both(noop); err != nil {
			return err
		}
		f.NoopRead, f.NoopInsert = new(pair), new(pair)
		if *f.NoopRead, err = reading.alone(ctx, r, routed, plain); err != nil {
			return fmt.Errorf("%s, no-op: %w", c.name(reading), err)
		}
		if *f.NoopInsert, err = inserting.alone(ctx, r, routed, plain); err != nil {
			return fmt.Errorf("%s, no-op: %w", c.name(inserting), err)
		}
		fmt.Fprintf(r.progress, "%s: the client's part: done\n", c.router)
	}
	return nil
}

// alone compares calls that no server delays, in ns.
func (o operation) alone(ctx context.Context, r *report, routed, plain library) (pair, error) {
	const n = 256
	var s samples
	ours, theirs := o.call(routed), o.call(plain)
	if err := s.compare(ctx, r.rounds, 1, side{"routed", spread(1, n, ours)}, side{"plain", spread(1, n, theirs)}); err != nil {
		return pair{}, err
	}
	out := s.pair(n)
	out.Routed, out.Plain = out.Routed*1e3, out.Plain*1e3
	out.RoutedAllocs = allocations(func() { _ = ours(ctx) })
	out.PlainAllocs = allocations(func() { _ = theirs(ctx) })
	return out, nil
}

// stale counts reads that do not see what the same caller has just written,
// while the replica applies nothing.
func (p *peers) stale(ctx context.Context, r *report, s servers, cluster *lab.Cluster) error {
	replica := cluster.Replicas()[0]
	if err := replica.Heal(ctx); err != nil {
		return err
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := replica.PauseReplay(ctx); err != nil {
		return err
	}
	u, err := s.under(ctx)
	if err != nil {
		return err
	}
	defer u.close()
	for i, c := range contenders {
		routed, err := c.routed(u)
		if err != nil {
			return err
		}
		f := &p.found[i]
		for range readsAfterWrites {
			p.lastID++
			if err := routed.insert(ctx, p.lastID); err != nil {
				return fmt.Errorf("%s: %w", c.name(inserting), err)
			}
			seen, err := routed.read(ctx, p.lastID)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(reading), err)
			}
			f.Reads++
			if !seen {
				f.Stale++
			}
		}
		if c.router == "pgtide" {
			r.add(result{Name: fmt.Sprintf("%s over pgtide: stale of %d reads after writes", c.library, f.Reads), Ours: float64(f.Stale), Unit: "reads", Budget: 0})
		}
	}
	return nil
}

func (p *peers) report(r *report) { r.Peers = p.found }

// printPeers prints the second table of a report.
func printPeers(w io.Writer, found []peer) error {
	fmt.Fprint(w, `
Routers, each against its library without one. "real": PostgreSQL, us and ratio. "client": the same with
answers replayed, what the router adds in ns and allocations. "no-op": on a driver that does nothing, which
pgtide cannot stand on, for it speaks pgx. "stale": reads after writes that missed them, replay being paused.

`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "router\tlibrary\treal read\t\treal insert\t\tclient read\t\tclient insert\t\tno-op read\t\tno-op insert\t\tstale\t")
	for _, p := range found {
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%.3f\t%.4g\t%.3f\t", p.Router, p.Library, p.Read.Routed, p.Read.Ratio, p.Insert.Routed, p.Insert.Ratio)
		for _, x := range []*pair{&p.ClientRead, &p.ClientInsert, p.NoopRead, p.NoopInsert} {
			if x == nil {
				fmt.Fprint(t, "-\t\t")
				continue
			}
			fmt.Fprintf(t, "%+.0f\t%+.0f\t", x.Routed-x.Plain, x.RoutedAllocs-x.PlainAllocs)
		}
		fmt.Fprintf(t, "%d of %d\t\n", p.Stale, p.Reads)
	}
	return t.Flush()
}
