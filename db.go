package pgtide

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// DB is a pool over all nodes of a cluster. Its methods are those of a
// [pgxpool.Pool], and like a pool it is safe for concurrent use.
type DB struct {
	options Options
	nodes   []*node
	watch   *watch.Watcher
	started chan struct{} // closed when watch is set, or never will be
	kinds   sqlkind.Cache
	// writes counts the calls that may have written and have returned.
	writes atomic.Uint64
	// own is what writes stood at after the newest of them that was made through
	// this DB. The others are those of tokens: they concern their sessions alone.
	own    atomic.Uint64
	groups map[string]uint64 // the nodes of each, as a bit mask
	queued atomic.Int64      // calls that wait for a primary
	spill  chan struct{}     // places for reads at the primary because replicas lag; nil sets no limit
	closed chan struct{}
	once   sync.Once // closes closed
	stat   counters

	primaryOnce  sync.Once // makes primaryPool
	primaryPool  atomic.Pointer[pgxpool.Pool]
	primaryErr   error
	primaryConns primaryConns
}

// node is a server and the pool of connections to it.
type node struct {
	index    int
	name     string
	hash     uint32
	pool     *pgxpool.Pool
	prepare  func(context.Context, *pgx.ConnConfig) error // the caller's BeforeConnect
	greet    func(context.Context, *pgx.Conn) error       // the caller's AfterConnect
	inFlight atomic.Int64
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
	configs, err := o.configs()
	if err != nil {
		return nil, err
	}
	db := &DB{options: o, groups: groupsOf(o.Nodes), started: make(chan struct{}), closed: make(chan struct{})}
	watched := make([]watch.Node, len(configs))
	for i, c := range configs {
		n, err := db.newNode(i, c)
		if err != nil {
			close(db.started)
			db.closePools()
			return nil, err
		}
		db.nodes = append(db.nodes, n)
		watched[i] = watch.Node{Name: c.name, Config: n.pool.Config().ConnConfig, Prepare: n.prepare}
	}
	db.spill = newSpill(o.SpillLimit, db.nodes)
	db.watch = watch.Start(watch.Options{
		Nodes:    watched,
		Interval: o.ProbeInterval,
		Timeout:  o.ProbeTimeout,
		Writes:   db.writes.Load,
		OnView:   db.viewed,
	})
	close(db.started)
	if err := db.ready(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func newSpill(limit int, nodes []*node) chan struct{} {
	if limit == 0 {
		limit = max(1, int(nodes[0].pool.Config().MaxConns)/2)
	}
	if limit < 0 {
		return nil
	}
	return make(chan struct{}, limit)
}

func (db *DB) newNode(i int, c nodeConfig) (*node, error) {
	if f := db.options.Configure; f != nil {
		if err := f(c.name, c.pool); err != nil {
			return nil, fmt.Errorf("configure node %q: %w", c.name, err)
		}
	}
	prepare := c.pool.BeforeConnect
	c.pool.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		if prepare != nil {
			if err := prepare(ctx, config); err != nil {
				return err
			}
		}
		stamp.Install(&config.Config)
		return nil
	}
	greet := c.pool.AfterConnect
	c.pool.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := db.recognise(ctx, i, conn); err != nil {
			return err
		}
		if greet != nil {
			return greet(ctx, conn)
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c.pool)
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", c.name, err)
	}
	return &node{index: i, name: c.name, hash: hashName(c.name), pool: pool, prepare: prepare, greet: greet}, nil
}

// errRestarted means that a connection reached another run of the server than
// the one that was watched: what is known of the node does not hold for it.
var errRestarted = errors.New("the server was restarted since it was last looked at")

// recognise makes sure that a new connection leads to the very server run whose
// position is known: a replica that has restarted may show less than it did.
func (db *DB) recognise(ctx context.Context, i int, conn *pgx.Conn) error {
	// A pool with a minimum of connections makes them before there is a watcher.
	select {
	case <-db.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	if db.watch == nil {
		return ErrClosed
	}
	var incarnation int64
	var replay *string
	before := &db.watch.View().Nodes[i]
	err := conn.QueryRow(ctx, "select "+watch.Incarnation+", pg_last_wal_replay_lsn()::text", pgx.QueryExecModeSimpleProtocol).Scan(&incarnation, &replay)
	if err != nil {
		return err
	}
	// A server whose process crashed recovers without a new start time, and a
	// standby then opens before it has replayed what it had shown.
	back := false
	if before.Role == topology.Replica && before.Incarnation == incarnation && replay != nil {
		lsn, err := topology.ParseLSN(*replay)
		back = err != nil || lsn < before.Position.LSN
	}
	if n := &db.watch.View().Nodes[i]; n.Incarnation != incarnation || back {
		db.watch.Kick(1 << uint(i))
		return fmt.Errorf("node %q: %w", n.Name, errRestarted)
	}
	return nil
}

// ready waits until db can be used, or says why it cannot.
func (db *DB) ready(ctx context.Context) error {
	began := time.Now()
	wait, cancel := context.WithTimeoutCause(ctx, max(db.options.FailoverWait, db.options.ProbeTimeout), errors.New("waited long enough"))
	defer cancel()
	db.watch.Attend(^uint64(0))
	defer db.watch.Leave(^uint64(0))
	for {
		changed := db.watch.Changed()
		v := db.watch.View()
		if done, err := readiness(v); done || err != nil {
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
func readiness(v *topology.View) (bool, error) {
	seen := true
	for i := range v.Nodes {
		n := &v.Nodes[i]
		switch {
		case n.State == topology.Unseen:
			seen = false
		case n.State == topology.Foreign:
			return false, fmt.Errorf("%w: all nodes must be one primary and its replicas", n.Err)
		case n.State == topology.Down:
			if mend := mend(n.Err); mend != "" {
				return false, fmt.Errorf("%w: %s", n.Err, mend)
			}
		}
	}
	return seen && v.Primary != topology.NoNode, nil
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
	case "3D000":
		return "create the database, or name another in its DSN"
	case "42704", "22023":
		return "take the unknown or wrong parameter out of its DSN"
	case "42501":
		return "let the role execute the function"
	}
	return ""
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
		default:
			errs = append(errs, n.Err)
		}
	}
	return errors.Join(errs...)
}

// viewed acts on what a new view changed. Connections made to a node in
// another role or run are closed: the pool would keep them for an hour.
func (db *DB) viewed(old, v *topology.View) {
	for i := range v.Nodes {
		a, b := &old.Nodes[i], &v.Nodes[i]
		if a.Incarnation != b.Incarnation && a.Incarnation != 0 || a.Role != b.Role && a.Role != topology.RoleUnknown {
			db.nodes[i].pool.Reset()
		}
		if f := db.options.Hooks.OnNode; f != nil && (a.Role != b.Role || a.State != b.State) {
			f(nodeStatus(old, i, b.Observed), nodeStatus(v, i, b.Observed))
		}
	}
	if pool := db.primaryPool.Load(); pool != nil && old.Primary != v.Primary {
		if v.Primary != topology.NoNode {
			db.primaryConns.leave(v.Primary)
		}
		pool.Reset()
	}
	if f := db.options.Hooks.OnPrimary; f != nil && (old.Primary != v.Primary || old.SplitBrain != v.SplitBrain) {
		f(nodeName(old, old.Primary), nodeName(v, v.Primary), v.SplitBrain)
	}
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
		if db.watch != nil {
			db.watch.Close()
		}
		db.closePools()
	})
}

// Reset closes all connections of all nodes: idle ones at once, others when they
// are given back. db makes new ones as it needs them.
func (db *DB) Reset() {
	for _, n := range db.nodes {
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
	db.primaryOnce.Do(func() { db.primaryErr = ErrClosed })
	if pool := db.primaryPool.Load(); pool != nil {
		pool.Close()
	}
	for _, n := range db.nodes {
		n.pool.Close()
	}
}
