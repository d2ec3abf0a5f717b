package pgtide

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// DB is a pool over all nodes of a cluster. Its methods are those of a
// [pgxpool.Pool], and like a pool it is safe for concurrent use.
type DB struct {
	options Options
	roster  atomic.Pointer[roster]
	watch   *watch.Watcher
	kinds   sqlkind.Cache
	// writes counts the calls that may have written and have returned.
	writes atomic.Uint64
	// own is what writes stood at after the newest of them that was made through
	// this DB. The others are those of tokens: they concern their sessions alone.
	own    atomic.Uint64
	queued atomic.Int64  // calls that wait for a primary
	spill  chan struct{} // places for reads at the primary because replicas lag; nil sets no limit
	turn   atomic.Uint64 // reads placed, for RoundRobin
	trial  atomic.Int64  // when an ejected replica was last tried, in nanoseconds of the watcher's clock
	closed chan struct{}
	once   sync.Once // closes closed
	stat   counters

	enrolling sync.Mutex     // orders changes of roster
	draining  sync.WaitGroup // pools of nodes that have left
	departed  departed
	discovery discovery

	primaryMaking sync.Mutex // guards the making of primaryPool
	primaryPool   atomic.Pointer[pgxpool.Pool]
}

// Open connects to the nodes that o names and learns their roles. It returns
// once every node has answered or was found down, and one of them is the
// primary; it waits for a primary until ctx ends, and at most
// [Options.FailoverWait].
//
// A replica that is down does not keep Open from returning: it is used as soon
// as it answers. What waiting cannot mend does: a wrong password, a database
// or parameter that does not exist, nodes of two clusters.
func Open(ctx context.Context, o Options) (*DB, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o, err := o.withDSN()
	if err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err // what the DSN says may not be
	}
	o = o.withDefaults()
	db := &DB{options: o, closed: make(chan struct{})}
	db.roster.Store(&roster{})
	db.watch = watch.New(watch.Options{
		Rules: topology.Rules{
			Interval: o.ProbeInterval, SlowStart: o.SlowStart, EjectFactor: o.EjectFactor, KeepShare: o.KeepShare,
		},
		Timeout: o.ProbeTimeout,
		Writes:  db.writes.Load,
		OnView:  db.viewed,
	})
	if err := db.begin(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// begin finds db's nodes and waits until it can be used.
func (db *DB) begin(ctx context.Context) error {
	if db.options.Discover != nil {
		if err := db.discoverFirst(ctx); err != nil {
			return err
		}
	} else {
		configs, err := db.options.configs()
		if err != nil {
			return err
		}
		if _, _, err := db.enrol(configs); err != nil {
			return err
		}
	}
	db.spill = newSpill(db.options.SpillLimit, db.roster.Load().nodes())
	return db.ready(ctx)
}

func newSpill(limit int, nodes []*node) chan struct{} {
	if limit == 0 {
		limit = 2
		if len(nodes) > 0 {
			limit = max(1, int(nodes[0].config.pool.MaxConns)/2)
		}
	}
	if limit < 0 {
		return nil
	}
	return make(chan struct{}, limit)
}

// ready waits until db can be used, or says why it cannot.
func (db *DB) ready(ctx context.Context) error {
	began := time.Now()
	wait, cancel := context.WithTimeoutCause(ctx, max(db.options.FailoverWait, db.options.ProbeTimeout), errors.New("waited long enough"))
	defer cancel()
	defer db.watch.Attend(^uint64(0)).Leave()
	for {
		changed := db.watch.Changed()
		v := db.watch.View()
		if done, err := db.readiness(v); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-wait.Done():
			return unready(v, time.Since(began))
		}
	}
}

// readiness says whether v is good enough to begin with, and what in it no
// waiting can mend.
func (db *DB) readiness(v *topology.View) (bool, error) {
	seen := true
	for i := range v.Nodes {
		n := &v.Nodes[i]
		switch {
		case n.State == topology.Unseen:
			seen = false
		case n.State == topology.Foreign:
			return false, fmt.Errorf("%w: all nodes must be one primary and its replicas", n.Err)
		case n.State == topology.Down:
			if mend := mend(n.Err); mend != "" && !db.coming(v, i) {
				return false, fmt.Errorf("%w: %s", n.Err, mend)
			}
		}
	}
	return seen && (db.options.Degraded || v.Primary != topology.NoNode), nil
}

// coming reports whether the node in a place lacks only a database that the
// primary has, or may have: then it has not replayed that yet.
func (db *DB) coming(v *topology.View, place int) bool {
	var pg *pgconn.PgError
	if !errors.As(v.Nodes[place].Err, &pg) || pg.Code != codeNoDatabase {
		return false
	}
	r := db.roster.Load()
	late := r.at(v, place)
	for i := range v.Nodes {
		other := r.at(v, i)
		same := late != nil && other != nil && late.config.pool.ConnConfig.Database == other.config.pool.ConnConfig.Database
		if same && (i == v.Primary || v.Nodes[i].State == topology.Unseen) {
			return true
		}
	}
	return false
}

// mend says what to do about an error that stays until somebody does it.
func mend(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	switch pg.Code {
	case "28P01", "28000":
		return "check the user and password in its DSN, and pg_hba.conf on the server"
	case codeNoDatabase:
		return "create the database, or name another in its DSN"
	case "42704", "22023":
		return "take the unknown or wrong parameter out of its DSN"
	case "42501":
		return "let the role execute the function"
	}
	return mendPooler(pg)
}

// unready tells what is wrong with each node.
func unready(v *topology.View, waited time.Duration) error {
	if v.SplitBrain {
		return fmt.Errorf("%w: stop one of them", ErrSplitBrain)
	}
	errs := []error{fmt.Errorf("%w after %v: check that the servers run and can be reached", ErrNoPrimary, waited.Round(time.Millisecond))}
	for i := range v.Nodes {
		switch n := &v.Nodes[i]; n.State {
		case topology.Up:
			errs = append(errs, fmt.Errorf("node %q is a %s", n.Name, n.Role))
		case topology.Unseen:
			errs = append(errs, fmt.Errorf("node %q has not answered", n.Name))
		case topology.Gone:
		default:
			errs = append(errs, n.Err)
		}
	}
	return errors.Join(errs...)
}

func nodeName(v *topology.View, i int) string {
	if i == topology.NoNode {
		return ""
	}
	return v.Nodes[i].Name
}

// Close closes all connections. It waits until those that are in use have been
// given back, as a pool does. Calls that wait for a node return [ErrClosed].
func (db *DB) Close() {
	db.once.Do(func() {
		close(db.closed)
		db.discovery.end()
		db.watch.Close()
		db.closePools()
	})
}

// Reset closes all connections of all nodes: idle ones at once, others when they
// are given back. db makes new ones as it needs them.
func (db *DB) Reset() {
	for _, n := range db.roster.Load().nodes() {
		n.pool.Reset()
	}
	if pool := db.primaryPool.Load(); pool != nil {
		pool.Reset()
	}
}

func (db *DB) isClosed() bool {
	select {
	case <-db.closed:
		return true
	default:
		return false
	}
}

func (db *DB) closePools() {
	db.primaryMaking.Lock() // whoever makes one has done so, and nobody begins any more
	pool := db.primaryPool.Load()
	db.primaryMaking.Unlock()
	if pool != nil {
		pool.Close()
	}
	db.enrolling.Lock()
	defer db.enrolling.Unlock()
	for _, n := range db.roster.Load().nodes() {
		n.pool.Close()
	}
	db.draining.Wait()
}
