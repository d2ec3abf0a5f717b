package keeper

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// Names of databases in a leased cluster. Those that begin with DatabasePrefix
// are dropped when their lease ends, unless their comment is Kept.
const (
	DatabasePrefix   = "pgtidetest_"
	TemplatePrefix   = "pgtidetemplate_"
	UnfinishedSuffix = "_unfinished"
	Kept             = "kept by pgtidetest: its test failed"
)

// tendTimeout bounds what is done to put a cluster right. A new one is quicker
// to have than most of what takes longer.
const tendTimeout = 15 * time.Second

// cluster is one of the pool's. Its holder, or whoever tends it, has it alone.
type cluster struct {
	*lab.Cluster
	spec   string
	record string // the file that names its folder

	// The pool's lock guards these.
	holder    *Holder
	tended    bool // being put right after a lease
	templates map[string]bool

	conns map[string]*pgx.Conn // by node, while tended
	hurt  bool                 // a fault was done to it
}

func newCluster(c *lab.Cluster, spec, record string) *cluster {
	return &cluster{Cluster: c, spec: spec, record: record, templates: map[string]bool{}, conns: map[string]*pgx.Conn{}}
}

func (c *cluster) describe() *Cluster {
	d := &Cluster{Dir: c.Dir(), Version: c.Version(), AppRole: c.AppRole()}
	for _, n := range c.Nodes() {
		d.Nodes = append(d.Nodes, Node{n.Name(), n.DSN(), n.SuperDSN()})
	}
	if primary := c.Primary(); primary != nil {
		d.Primary = primary.Name()
	}
	for _, n := range c.Replicas() {
		d.Replicas = append(d.Replicas, n.Name())
	}
	return d
}

func (c *cluster) fault(ctx context.Context, fault, name string) error {
	n, err := c.Node(name)
	if err != nil {
		return err
	}
	c.hurt = true
	switch fault {
	case Kill:
		return n.Kill(ctx)
	case Freeze:
		return n.Freeze(ctx)
	case Cut:
		return n.Cut(ctx)
	case Promote:
		return c.Promote(ctx, name)
	case Start:
		return startNode(ctx, n)
	case Thaw:
		return n.Thaw(ctx)
	case Heal:
		return n.Heal(ctx)
	case Rejoin:
		return n.Rejoin(ctx)
	}
	return fmt.Errorf("unknown request %q", fault)
}

// startNode tries again: the lab may take the file that a killed server left for
// the new one's, and ask it before it listens.
func startNode(ctx context.Context, n *lab.Node) (err error) {
	for range 3 {
		if err = n.Start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// tend makes the cluster fit for the next test, or says why it is not.
func (c *cluster) tend() error {
	ctx, cancel := context.WithTimeout(context.Background(), tendTimeout)
	defer cancel()
	err := c.check(ctx)
	if err != nil || c.hurt {
		if err = c.repair(ctx); err == nil {
			err = c.check(ctx)
		}
	}
	if err == nil {
		err = c.dropDatabases(ctx)
	}
	c.hurt = false
	return err
}

// conn returns a superuser's connection, which the keeper keeps.
func (c *cluster) conn(ctx context.Context, n *lab.Node) (*pgx.Conn, error) {
	if conn := c.conns[n.Name()]; conn != nil && !conn.IsClosed() {
		if conn.Ping(ctx) == nil {
			return conn, nil
		}
	}
	config, err := pgx.ParseConfig(n.SuperDSN())
	if err != nil {
		return nil, err
	}
	config.Database = "postgres"
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		c.conns[n.Name()] = conn
	}
	return conn, err
}

// inParallel does it for all nodes at once.
func inParallel(nodes []*lab.Node, do func(*lab.Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// check reports what is not as in a new cluster. It is short: it stands between
// one test and the next.
func (c *cluster) check(ctx context.Context) error {
	if primary := c.Primary(); primary == nil || primary != c.Nodes()[0] || len(c.Replicas()) != len(c.Nodes())-1 {
		return errors.New("the roles have changed")
	}
	for i, n := range c.Nodes() {
		short, cancel := context.WithTimeout(ctx, 2*time.Second) // a frozen server does not answer
		conn, err := c.conn(short, n)
		var settings, timeline int
		var ok bool
		if err == nil {
			err = conn.QueryRow(short, `select
				(select count(*) from pg_file_settings where sourcefile like '%postgresql.auto.conf'),
				(select timeline_id from pg_control_checkpoint()),
				case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'not paused'
					and current_setting('recovery_min_apply_delay') = '0'
					and exists (select from pg_stat_wal_receiver where status = 'streaming') else true end`).Scan(&settings, &timeline, &ok)
		}
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", n.Name(), err)
		case settings != 0:
			return fmt.Errorf("%s has %d settings changed", n.Name(), settings)
		case timeline != 1:
			return fmt.Errorf("%s has been promoted", n.Name())
		case !ok && i > 0:
			return fmt.Errorf("%s does not replay", n.Name())
		}
	}
	return nil
}

// repair undoes every fault that can be undone. A promotion cannot: the new
// cluster would have other roles and timelines than a test expects.
func (c *cluster) repair(ctx context.Context) error {
	nodes := c.Nodes()
	if primary := c.Primary(); primary == nil || primary != nodes[0] || len(c.Replicas()) != len(nodes)-1 {
		return errors.New("a replica was promoted")
	}
	for _, n := range nodes {
		n.Thaw(ctx) // an error says that it is stopped
	}
	// The primary first: replicas start when they can follow it.
	if err := startNode(ctx, nodes[0]); err != nil {
		return err
	}
	err := inParallel(nodes[1:], func(n *lab.Node) error { return errors.Join(startNode(ctx, n), n.Heal(ctx)) })
	if err != nil {
		return err
	}
	for i, n := range nodes {
		conn, err := c.conn(ctx, n)
		if err != nil {
			return err
		}
		statements := []string{"alter system reset all", "select pg_reload_conf()", "select pg_wal_replay_resume()"}
		if i == 0 {
			statements = statements[:2]
		}
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
		}
	}
	return c.WaitCaughtUp(ctx)
}

func (c *cluster) dropDatabases(ctx context.Context) error {
	conn, err := c.conn(ctx, c.Nodes()[0])
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `select datname from pg_database
		where (starts_with(datname, $1) or datname like '%' || $2)
		and coalesce(shobj_description(oid, 'pg_database'), '') <> $3`, DatabasePrefix, UnfinishedSuffix, Kept)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = conn.Exec(ctx, "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)")
		}
	}
	return err
}

// discard closes the cluster for good.
func (c *cluster) discard(why string) error {
	log.Printf("closing the cluster in %s: %s", c.Dir(), why)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.Close()
	for _, conn := range c.conns {
		conn.Close(ctx)
	}
	if err == nil {
		err = os.Remove(c.record)
	}
	if err != nil {
		log.Printf("close the cluster in %s: %v", c.Dir(), err)
	}
	return err
}
