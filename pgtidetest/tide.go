package pgtidetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

const (
	// newTimeout bounds New, with the wait for a cluster that others use.
	newTimeout = 2 * time.Minute
	// actTimeout bounds what a test asks for after that.
	actTimeout = 30 * time.Second
)

// Tide is a test's own database on a replicating cluster, and a DB on it. All of
// it ends with the test.
//
// Its methods fail the test when they cannot do what they say, so they are for
// the test's goroutine; those of the DB are for any.
type Tide struct {
	*pgtide.DB

	t        testing.TB
	options  Options
	source   source
	servers  *servers
	database string
	trace    *trace
	relays   map[string]*relay // what DSN leads through, by node; nil is nothing

	sqlOnce sync.Once
	sql     *sql.DB

	mu       sync.Mutex // guards the fields below
	dbs      []*pgtide.DB
	lag      map[string]string // what holds a replica back, in words
	down     map[string]string // what was done to a node, in words
	promoted bool
}

// New gives the test a database of its own on a primary and two replicas, made as
// [Main] was told, and a DB on it with [pgtide]'s defaults.
func New(t testing.TB) *Tide {
	t.Helper()
	return NewWith(t, defaults)
}

// NewWith is [New] with other options than those of [Main].
func NewWith(t testing.TB, o Options) *Tide {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), newTimeout)
	defer cancel()
	c := &Tide{t: t, options: o, lag: map[string]string{}, down: map[string]string{}, trace: newTrace()}
	if err := c.open(ctx); err != nil {
		t.Fatalf("pgtidetest: %v", c.explain(err))
	}
	return c
}

func (c *Tide) open(ctx context.Context) error {
	if err := c.options.validate(); err != nil {
		return err
	}
	if _, err := keepTime(); err != nil {
		return err
	}
	template, err := c.options.templateName()
	if err != nil {
		return err
	}
	if c.source, err = c.options.take(ctx, c.t.Name(), template); err != nil {
		return err
	}
	cluster := c.source.Cluster()
	c.servers = newServers(cluster.Nodes)
	c.t.Cleanup(c.close)
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	names := make([]string, len(cluster.Nodes))
	for i, n := range cluster.Nodes {
		names[i] = n.Name
	}
	if err := c.servers.connect(ctx, names...); err != nil {
		return err
	}
	c.database = keeper.DatabasePrefix + strings.ToLower(rand.Text()[:12])
	if e, ok := c.source.(*existing); ok {
		e.made = c.database
	}
	if template != "" {
		if err := c.makeTemplate(ctx, template); err != nil {
			return fmt.Errorf("make the template database: %w", err)
		}
	}
	if err := c.makeDatabase(ctx, template); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if c.DB, err = c.openDB(ctx, c.options.DB); err == nil {
		err = c.warm(ctx)
	}
	// After what Address may have started, so that it ends before that does.
	c.t.Cleanup(c.closeDBs)
	return err
}

// warm waits until the DB knows how fresh each replica is, so that a test's first
// read already goes where any later one would.
func (c *Tide) warm(ctx context.Context) error {
	replicas := c.Replicas()
	if len(replicas) == 0 {
		return nil
	}
	token, err := c.DB.CurrentToken(context.WithValue(ctx, quietKey{}, true))
	if err != nil {
		return err
	}
	return c.DB.WaitFor(ctx, token, replicas...)
}

// take gets the cluster that the test will use.
func (o Options) take(ctx context.Context, test, template string) (source, error) {
	if dsn := o.existingDSN(); dsn != "" {
		return takeExisting(ctx, dsn, o.Shared)
	}
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	dir, err := keeper.Folder()
	if err != nil {
		return nil, err
	}
	lease, err := keeper.Take(ctx, dir, spec, test, template)
	if err != nil {
		return nil, err
	}
	return lease, nil
}

// openDB opens a DB on the test's database.
func (c *Tide) openDB(ctx context.Context, o pgtide.Options) (*pgtide.DB, error) {
	nodes, err := c.nodes()
	if err != nil {
		return nil, err
	}
	o.Nodes = nodes
	db, err := pgtide.Open(ctx, c.trace.install(o))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dbs = append(c.dbs, db)
	return db, nil
}

func (c *Tide) nodes() ([]pgtide.Node, error) {
	var nodes []pgtide.Node
	for _, n := range c.source.Cluster().Nodes {
		dsn, err := c.dsn(n.Name, c.database)
		if err == nil && c.options.Address != nil {
			var at string
			if at, err = address(n.DSN); err == nil {
				dsn, err = redirect(dsn, c.options.Address(n.Name, at), "")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		nodes = append(nodes, pgtide.Node{Name: n.Name, DSN: dsn})
	}
	return nodes, nil
}

func (c *Tide) dsn(node, database string) (string, error) {
	for _, n := range c.source.Cluster().Nodes {
		if n.Name == node {
			return redirect(n.DSN, "", database)
		}
	}
	return "", c.unknown(node)
}

func (c *Tide) unknown(node string) error {
	var names []string
	for _, n := range c.source.Cluster().Nodes {
		names = append(names, n.Name)
	}
	return fmt.Errorf("there is no node %q: they are %s", node, strings.Join(names, ", "))
}

// SQL returns a *sql.DB over the DB, the same one each time.
func (c *Tide) SQL() *sql.DB {
	c.sqlOnce.Do(func() { c.sql = pgtidesql.Open(c.DB) })
	return c.sql
}

// Open opens another DB on the test's database, such as that of a second process
// of the application. Its nodes are set here; it is closed with the test.
func (c *Tide) Open(o pgtide.Options) *pgtide.DB {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	db, err := c.openDB(ctx, o)
	if err != nil {
		c.t.Fatalf("pgtidetest: open another DB: %v", c.explain(err))
	}
	return db
}

// Connect opens a plain connection to one node, past pgtide: what it reads there
// is what a router that knows nothing of lag would read. It is closed with the
// test.
func (c *Tide) Connect(node string) *pgx.Conn {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	dsn, err := c.dsn(node, c.database)
	if err != nil {
		c.t.Fatalf("pgtidetest: %v", err)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		c.t.Fatalf("pgtidetest: connect to %s: %v", node, c.explain(err))
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // a frozen server does not answer
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// DSN returns the connection string of a node for the test's database, as its
// owner.
func (c *Tide) DSN(node string) string {
	c.t.Helper()
	dsn, err := c.dsn(node, c.database)
	if r := c.relays[node]; err == nil && r != nil {
		dsn, err = redirect(dsn, r.address(), "")
	}
	if err != nil {
		c.t.Fatalf("pgtidetest: %v", err)
	}
	return dsn
}

// SuperDSN is [Tide.DSN] as a superuser, for what the owner may not do. What it
// does outside of the test's database stays for the tests that come after.
func (c *Tide) SuperDSN(node string) string {
	c.t.Helper()
	for _, n := range c.source.Cluster().Nodes {
		if n.Name == node {
			if dsn, err := redirect(n.SuperDSN, "", c.database); err == nil {
				return dsn
			}
		}
	}
	c.t.Fatalf("pgtidetest: %v", c.unknown(node))
	return ""
}

// Primary returns the name of the node that takes writes.
func (c *Tide) Primary() string { return c.source.Cluster().Primary }

// Replicas returns the names of the replicas.
func (c *Tide) Replicas() []string { return slices.Clone(c.source.Cluster().Replicas) }

// Dir returns the folder of the cluster, with a server.log for each node; empty
// for an existing cluster.
func (c *Tide) Dir() string { return c.source.Cluster().Dir }

// context bounds what the test asks for. It also serves cleanup functions, for
// which the test's own context has ended.
func (c *Tide) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.t.Context()), actTimeout)
}

func (c *Tide) closeDBs() {
	if c.sql != nil {
		c.sql.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, db := range c.dbs {
		db.Close()
	}
}

// close gives back the cluster, and the database if it is not to be kept.
func (c *Tide) close() {
	var keep time.Duration
	if c.t.Failed() && c.DB != nil {
		c.t.Log(c.trace.String())
		keep = c.keep()
	}
	if e, ok := c.source.(*existing); ok && len(c.lag) > 0 { // a keeper does so itself
		ctx, cancel := c.context()
		if err := e.restore(ctx, c.servers); err != nil {
			c.t.Errorf("pgtidetest: %v", err)
		}
		cancel()
	}
	c.servers.close()
	if err := c.source.End(keep); err != nil {
		c.t.Logf("pgtidetest: give the cluster back: %v", err)
	}
}

// keep marks the database as one to keep, and says how to look into it.
func (c *Tide) keep() time.Duration {
	keep, _ := keepTime() // New has looked at it
	if keep == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	primary := c.source.Cluster().Primary
	conn, err := c.servers.conn(ctx, primary)
	if err == nil {
		_, err = conn.Exec(ctx, "comment on database "+quote(c.database)+" is '"+keeper.Kept+"'")
	}
	if err != nil {
		c.t.Logf("pgtidetest: the database of the failed test is lost: %v", err)
		return 0
	}
	dsn, err := c.dsn(primary, c.database)
	if err != nil {
		return 0
	}
	until := "for " + keep.String() + " (" + EnvKeep + ")"
	if c.Dir() == "" {
		until = "until it is dropped"
	}
	c.t.Logf("pgtidetest: the database of the failed test is kept %s:\n\tpsql '%s'", until, withoutPassword(dsn))
	return keep
}

// explain adds what to do to errors that do not say it.
func (c *Tide) explain(err error) error {
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, lab.ErrUnsupported):
		return fmt.Errorf("%w: elsewhere name an existing cluster with %s", err, EnvDSN)
	case !errors.As(err, &pg):
		return err
	case pg.Code == "53100":
		return fmt.Errorf("%w: free some room, or set TMPDIR to a folder with more; the cluster is in %s", err, c.Dir())
	case pg.Code == "42501":
		return fmt.Errorf("%w: give the role of the DSN the right, or leave %s unset to have a cluster made", err, EnvDSN)
	}
	return err
}
