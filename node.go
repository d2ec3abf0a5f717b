package pgtide

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// Node is a server that pgtide may talk to.
type Node struct {
	// Name is how [OnNode], decisions and errors call it. Required, unique.
	Name string
	// DSN is a connection string for this server alone, as pgxpool.ParseConfig
	// reads it. It must name a database.
	DSN string
	// ProbeDSN is where the node is looked at, if not by DSN: of the same server
	// without the pooler that DSN leads to, for one, so that a full pooler does not
	// look like a server that is down. That the pooler itself is down or paused then
	// shows only in calls that fail or hang. A connection by DSN that reaches another
	// run of the server, or another server, is refused. Its pool settings are not
	// used.
	ProbeDSN string
	// Groups are the names under which [OnGroup] finds the node while it is a
	// replica or a subscriber, such as "analytics".
	Groups []string
	// Subscription makes the node a subscriber: a server of its own that is kept up
	// to date by the logical subscription of this name in the database of DSN. Only
	// reads go there, of what the primary publishes and the subscriber has whole.
	// The other nodes' primary must be what feeds it. Its connections are made with
	// default_transaction_read_only, and must not lead through a pooler.
	Subscription string
	// Zone is where the node is. Reads go to replicas of [Options.Zone] as long
	// as one of them will do. Empty is near to everybody.
	Zone string
	// Weight is the node's share of the reads beside that of the others: one of
	// weight 2 gets twice the reads of one of weight 1. Zero is 1.
	Weight float64

	_ struct{} // field names are required
}

// connectTimeout is how long a connection may take to be made when the DSN says
// nothing of it. Without one, a call would wait for ever for a server that lets
// it knock.
const connectTimeout = 5 * time.Second

// node is a server and the pool of connections to it.
type node struct {
	config nodeConfig
	place  int
	id     uint32
	hash   uint32
	joined chan struct{} // closed when place and id are set, or never will be
	left   atomic.Bool
	run    atomic.Int64 // the incarnation it was last seen in when it left
	// wasPrimary says that it was the last primary there was.
	wasPrimary atomic.Bool

	pool    *pgxpool.Pool
	links   links
	pooling pooling
	stay    atomic.Pointer[stay]
	prepare func(context.Context, *pgx.ConnConfig) error // the caller's BeforeConnect
	greet   func(context.Context, *pgx.Conn) error       // the caller's AfterConnect

	inFlight  atomic.Int64
	served    atomic.Uint64 // reads it answered as a replica
	busy      atomic.Int64  // nanoseconds that they took together
	conflicts atomic.Int64  // calls it cancelled for replay's sake
	would     atomic.Int64  // calls that would have come, see [NodeStat]
}

func (n *node) name() string { return n.config.name }

// calls is what the watcher asks for.
func (n *node) calls() (uint64, time.Duration) {
	return n.served.Load(), time.Duration(n.busy.Load())
}

func (n *node) member(zone string) topology.Member {
	c := &n.config
	return topology.Member{Name: c.name, Weight: c.weight, Far: c.zone != "" && zone != "" && c.zone != zone}
}

func (n *node) watched(zone string) watch.Node {
	return watch.Node{Member: n.member(zone), Config: n.config.probe, Prepare: n.prepare, Calls: n.calls, Subscription: n.config.subscription}
}

func (db *DB) newNode(c nodeConfig) (*node, error) {
	if f := db.options.Configure; f != nil {
		if err := f(c.name, c.pool); err != nil {
			return nil, fmt.Errorf("configure node %q: %w", c.name, err)
		}
	}
	if c.pool.ConnConfig.ConnectTimeout == 0 {
		c.pool.ConnConfig.ConnectTimeout = connectTimeout
	}
	if c.pool.PingTimeout == 0 {
		c.pool.PingTimeout = db.options.ProbeTimeout
	}
	if c.subscription != "" {
		c.pool.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" // a standby needs no such word
	}
	n := &node{hash: hashName(c.name), joined: make(chan struct{}), prepare: c.pool.BeforeConnect, greet: c.pool.AfterConnect}
	n.pooling.chosen = choosesMode(c.pool.ConnString())
	n.stay.Store(newStay())
	c.pool.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		if n.prepare != nil {
			if err := n.prepare(ctx, config); err != nil {
				return err
			}
		}
		n.pooling.shape(config)
		config.DialFunc = db.dial(n, connecting, config.DialFunc)
		stamp.Install(&config.Config)
		return nil
	}
	c.pool.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := db.recognise(ctx, n, conn); err != nil {
			return err
		}
		if n.greet != nil {
			if err := n.greet(ctx, conn); err != nil {
				return err
			}
		}
		if l := linkOf(conn.PgConn()); l != nil {
			l.use.Store(uint32(idle))
		}
		return nil
	}
	if c.probe == nil {
		c.probe = c.pool.ConnConfig
	}
	var err error
	if n.pool, err = pgxpool.NewWithConfig(context.Background(), c.pool); err != nil {
		return nil, fmt.Errorf("node %q: %w", c.name, err)
	}
	n.config = c
	return n, nil
}

// errRestarted means that a connection reached another run of the server than
// the one that was watched: what is known of the node does not hold for it.
var errRestarted = errors.New("the server was restarted since it was last looked at")

// recognise makes sure that a new connection leads to the very server run whose
// position is known: a replica that has restarted may show less than it did.
func (db *DB) recognise(ctx context.Context, n *node, conn *pgx.Conn) error {
	// A pool with a minimum of connections makes them before anybody watches.
	select {
	case <-n.joined:
	case <-ctx.Done():
		return ctx.Err()
	}
	before := db.seen(n)
	if before == nil {
		return errLeft
	}
	// It is a part of connecting, and so is the time it may take.
	ctx, cancel := context.WithTimeout(ctx, n.config.pool.ConnConfig.ConnectTimeout)
	defer cancel()
	var incarnation, started int64
	var replay *string
	var pid uint32
	query, args := "select "+watch.Incarnation, []any{pgx.QueryExecModeSimpleProtocol}
	if name := n.config.subscription; name != "" {
		query, args = "select "+watch.SubscriberRun, append(args, name)
	}
	err := conn.QueryRow(ctx, query+", "+watch.Started+", pg_last_wal_replay_lsn()::text, pg_backend_pid()", args...).
		Scan(&incarnation, &started, &replay, &pid)
	if err != nil {
		return err
	}
	if n.config.subscription != "" && pid != conn.PgConn().PID() {
		return fmt.Errorf("node %q: %w", n.name(), watch.ErrPooledSubscriber)
	}
	if err := n.pooling.note(conn, pid, run{incarnation, started}); err != nil {
		return err
	}
	// A server whose process crashed recovers without a new start time, and a
	// standby then opens before it has replayed what it had shown.
	back := false
	if before.Role == topology.Replica && before.Incarnation == incarnation && replay != nil {
		lsn, err := topology.ParseLSN(*replay)
		back = err != nil || lsn < before.Position.LSN
	}
	if now := db.seen(n); now == nil || now.Incarnation != incarnation || back {
		// Or the node's name leads to another server now.
		db.watch.Redial(n.place)
		return n.restarted()
	}
	return nil
}

// restarted is errRestarted for n.
func (n *node) restarted() error {
	if n.config.probe != n.config.pool.ConnConfig {
		return fmt.Errorf("node %q: %w, or its ProbeDSN leads to another", n.name(), errRestarted)
	}
	return fmt.Errorf("node %q: %w", n.name(), errRestarted)
}

// errLeft means that a node is not among the nodes any more.
var errLeft = errors.New("the node has left")

// seen returns n as it was last observed, or nil if it has left.
func (db *DB) seen(n *node) *topology.Node {
	v := db.watch.View()
	if n.left.Load() || n.place >= len(v.Nodes) || v.Nodes[n.place].ID != n.id {
		return nil
	}
	return &v.Nodes[n.place]
}
