package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

const (
	// failovers is how often the primary is killed; fewer with -rounds.
	failovers = 20
	// drills is how often each of the slower scenarios is run.
	drills = 3

	firstWriteBudget = 250  // ms from the end of recovery to a write
	noticeBudget     = 1500 // ms until a silent node is known for one

	// callLimit bounds each call, so that one that hangs is told from a late one.
	callLimit = 8 * time.Second
)

// failoverSuite measures what callers notice of a primary that dies, of one that
// is moved, and of servers that fall silent.
func failoverSuite(ctx context.Context, r *report) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 2})
	if err != nil {
		return err
	}
	defer cluster.Close()
	r.Postgres = cluster.Version()
	if err := setupFailover(ctx, cluster); err != nil {
		return err
	}
	f := &failover{report: r, cluster: cluster, states: newStates()}
	defer f.close()
	if f.db, err = f.open(ctx, f.states); err != nil {
		return err
	}
	if f.pool, err = f.openPool(ctx, func(*pgxpool.Config) {}); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{f.kills, f.switchovers, f.silentReplica, f.silentPrimary, f.silentFailover} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func setupFailover(ctx context.Context, cluster *lab.Cluster) error {
	conn, err := pgx.Connect(ctx, cluster.Primary().DSN())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Without a constraint a row that is written twice is there twice.
	_, err = conn.Exec(ctx, `create table written (client text not null, id bigint not null);
		create index on written (client, id);
		create table item (id bigint primary key, v text not null);
		insert into item select i, 'x' from generate_series(1, 100) i`)
	if err != nil {
		return err
	}
	return cluster.WaitCaughtUp(ctx)
}

// failover is a cluster and two ways to use it.
type failover struct {
	report  *report
	cluster *lab.Cluster
	db      *pgtide.DB
	pool    *pgxpool.Pool
	states  states       // of db
	ids     atomic.Int64 // of rows
}

// state is what pgtide has found a node to be, and when.
type state struct {
	node, state string
	at          time.Time
}

// states are those that nobody has asked for yet.
type states chan state

func newStates() states { return make(states, 1024) }

func (f *failover) close() {
	if f.db != nil {
		f.db.Close()
	}
	if f.pool != nil {
		f.pool.Close()
	}
}

// writable is the state of a node that has become the one to write to.
const writable = "writable"

// open opens the cluster with pgtide's defaults. It tells states, if that is not
// nil, what becomes of the nodes.
func (f *failover) open(ctx context.Context, told states) (*pgtide.DB, error) {
	var o pgtide.Options
	for _, n := range f.cluster.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	o.Configure = func(_ string, config *pgxpool.Config) error {
		config.MaxConns = connections
		return nil
	}
	o.FailoverQueue = 10_000 // callers come at a steady pace, however many wait
	tell := func(node, what string) {
		select {
		case told <- state{node, what, time.Now()}:
		default: // nobody has asked for long, or nobody will
		}
	}
	o.Hooks.OnNode = func(_, after pgtide.NodeStatus) { tell(after.Name, after.State) }
	o.Hooks.OnPrimary = func(_, after string, _ bool) { tell(after, writable) }
	return pgtide.Open(ctx, o)
}

// openPool opens the cluster as one does without a router: a pool that tries one
// host after the other until it has found the one that takes writes.
func (f *failover) openPool(ctx context.Context, configure func(*pgxpool.Config)) (*pgxpool.Pool, error) {
	dsn, sign := f.cluster.DSN(), "?"
	if strings.Contains(dsn, sign) {
		sign = "&"
	}
	config, err := pgxpool.ParseConfig(dsn + sign + "target_session_attrs=read-write")
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	configure(config)
	return pgxpool.NewWithConfig(ctx, config)
}

// forget drops what s holds.
func (s states) forget() {
	for {
		select {
		case <-s:
		default:
			return
		}
	}
}

// seen returns when the node was found to be in a state.
func (s states) seen(ctx context.Context, node, want string) (time.Time, error) {
	limit := time.NewTimer(callLimit)
	defer limit.Stop()
	for {
		select {
		case found := <-s:
			if found.node == node && found.state == want {
				return found.at, nil
			}
		case <-limit.C:
			return time.Time{}, fmt.Errorf("node %s was not found %s within %v", node, want, callLimit)
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}

// ahead returns the replica that has received most, as a failover manager would
// choose it.
func (f *failover) ahead(ctx context.Context) (*lab.Node, error) {
	var best *lab.Node
	most := int64(-1)
	for _, n := range f.cluster.Replicas() {
		conn, err := pgx.Connect(ctx, n.SuperDSN())
		if err != nil {
			return nil, err
		}
		var received int64
		err = conn.QueryRow(ctx, "select (coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint").Scan(&received)
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return nil, err
		}
		if received > most {
			best, most = n, received
		}
	}
	return best, nil
}

// promotion is when a server was asked to take writes, and when it did.
type promotion struct{ asked, done time.Time }

// promote makes n the primary. A connection of its own asks each millisecond
// whether n is still in recovery. The promotion counts as done when the last
// question was sent that was answered yes: n took no writes before that, so what
// is measured from there is never too short, and too long by the time between
// two questions.
func (f *failover) promote(ctx context.Context, n *lab.Node) (promotion, error) {
	conn, err := pgx.Connect(ctx, n.SuperDSN())
	if err != nil {
		return promotion{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	promoted := make(chan error, 1)
	p := promotion{asked: time.Now()}
	go func() { promoted <- f.cluster.Promote(ctx, n.Name()) }()
	p.done, err = recovered(ctx, conn)
	return p, errors.Join(err, <-promoted)
}

func recovered(ctx context.Context, conn *pgx.Conn) (time.Time, error) {
	var done time.Time
	err := until(ctx, "the promotion", func() (bool, error) {
		sent, recovery := time.Now(), false
		err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovery)
		if err == nil && recovery {
			done = sent
		}
		return !recovery, err
	})
	if err == nil && done.IsZero() {
		err = errors.New("the server had left recovery before it was asked")
	}
	return done, err
}

// mend brings all nodes back as replicas of the primary and waits until pgtide
// knows them, so that the next event finds what the first one did.
func (f *failover) mend(ctx context.Context, old *lab.Node) error {
	if err := old.Rejoin(ctx); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, callLimit)
	err := f.cluster.WaitCaughtUp(soon)
	cancel()
	if err != nil {
		return err
	}
	return until(ctx, "pgtide to know all nodes", func() (bool, error) {
		nodes := f.db.Nodes()
		return f.db.Writable() && !slices.ContainsFunc(nodes, func(n pgtide.NodeStatus) bool {
			return n.State != "up" || n.Writable != (n.Name == f.cluster.Primary().Name())
		}), nil
	})
}

// until asks ok each millisecond until it says yes, at most for callLimit.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.Now().Add(callLimit)
	for {
		yes, err := ok()
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case yes:
			return nil
		case time.Now().After(limit):
			return fmt.Errorf("wait for %s: not within %v", what, callLimit)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}

// rest waits for d.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// quantile returns the value that a share q of v does not exceed, by nearest
// rank: of twenty values the 99th percentile is the greatest.
func quantile(v []float64, q float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[max(0, int(math.Ceil(q*float64(len(v))))-1)]
}
