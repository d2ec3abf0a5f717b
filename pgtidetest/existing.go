package pgtidetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// existingLock is the advisory lock on an existing cluster's primary: whoever has
// it alone may hold back replay. The server gives it up when its holder dies.
const existingLock = 0x70677469646574

// templateAge is when the template of an existing cluster has served its time.
const templateAge = "24 hours"

func (o Options) existingDSN() string { return cmp.Or(o.DSN, os.Getenv(EnvDSN)) }

// existing is a cluster that somebody else runs.
type existing struct {
	cluster keeper.Cluster
	shared  bool
	lock    *pgx.Conn // to the primary, with the lock
	made    string    // the test's database
}

func takeExisting(ctx context.Context, dsn string, shared bool) (*existing, error) {
	e := &existing{shared: shared}
	var err error
	if e.cluster.Nodes, err = splitDSN(dsn); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvDSN, err)
	}
	s := newServers(e.cluster.Nodes)
	defer s.close()
	for _, n := range e.cluster.Nodes {
		conn, err := s.conn(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		var replica bool
		if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&replica); err != nil {
			return nil, fmt.Errorf("ask %s for its role: %w", n.Name, err)
		}
		switch {
		case replica:
			e.cluster.Replicas = append(e.cluster.Replicas, n.Name)
		case e.cluster.Primary != "":
			return nil, fmt.Errorf("both %s and %s are primaries: name the nodes of one cluster", e.cluster.Primary, n.Name)
		default:
			e.cluster.Primary = n.Name
		}
	}
	if e.cluster.Primary == "" {
		return nil, errors.New("none of the nodes is the primary: name it too")
	}
	e.lock = s.conns[e.cluster.Primary]
	delete(s.conns, e.cluster.Primary)
	lock := "select pg_advisory_lock($1)"
	if shared {
		lock = "select pg_advisory_lock_shared($1)"
	}
	if _, err = e.lock.Exec(ctx, lock, existingLock); err != nil {
		err = fmt.Errorf("wait for the tests that use the cluster: %w", err)
	} else if !shared {
		err = e.clean(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, e.lock.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

// clean undoes what a killed test left. A pause or delay cannot be told from one
// of the cluster's owner; both would let no test pass.
func (e *existing) clean(ctx context.Context, s *servers) error {
	if err := e.restore(ctx, s); err != nil {
		return err
	}
	return e.drop(ctx, `starts_with(datname, '`+keeper.DatabasePrefix+`')
		or datname like '%`+keeper.UnfinishedSuffix+`'
		or starts_with(datname, '`+keeper.TemplatePrefix+`')
			and shobj_description(oid, 'pg_database')::timestamptz < now() - interval '`+templateAge+`'`)
}

// restore has all replicas replay again.
func (e *existing) restore(ctx context.Context, s *servers) error {
	for _, name := range e.cluster.Replicas {
		conn, err := s.conn(ctx, name)
		if err != nil {
			return err
		}
		var paused, delayed bool
		err = conn.QueryRow(ctx, `select pg_get_wal_replay_pause_state() <> 'not paused',
			exists (select from pg_settings where name = 'recovery_min_apply_delay' and setting <> '0' and sourcefile like '%postgresql.auto.conf')`).Scan(&paused, &delayed)
		if err == nil && delayed {
			err = setDelay(ctx, conn, 0)
		}
		if err == nil && paused {
			err = resume(ctx, conn)
		}
		if err != nil {
			return fmt.Errorf("have %s replay again: %w", name, err)
		}
	}
	return nil
}

// drop drops those of this package's databases that are not kept.
func (e *existing) drop(ctx context.Context, which string) error {
	rows, err := e.lock.Query(ctx, "select datname from pg_database where coalesce(shobj_description(oid, 'pg_database'), '') <> $1 and ("+which+")", keeper.Kept)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		if err == nil {
			_, err = e.lock.Exec(ctx, "drop database if exists "+quote(name)+" with (force)")
		}
	}
	return err
}

// Cluster implements source.
func (e *existing) Cluster() keeper.Cluster { return e.cluster }

// Fault implements source.
func (e *existing) Fault(context.Context, string, string) error {
	return fmt.Errorf("an existing cluster is not for tests to break: leave %s and Options.DSN unset to have one that is", EnvDSN)
}

// End implements source.
func (e *existing) End(time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), actTimeout)
	defer cancel()
	var err error
	if e.made != "" {
		err = e.drop(ctx, "datname = '"+e.made+"'")
	}
	return errors.Join(err, e.lock.Close(ctx))
}

// splitDSN returns a node for each host of a connection string.
func splitDSN(dsn string) ([]keeper.Node, error) {
	dsn = strings.Replace(dsn, "pgtide://", "postgres://", 1)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	type host struct {
		name string
		port uint16
	}
	hosts := []host{{config.Host, config.Port}}
	for _, f := range config.Fallbacks { // one for each way to connect to a host
		if h := (host{f.Host, f.Port}); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	var nodes []keeper.Node
	for _, h := range hosts {
		at := net.JoinHostPort(h.name, strconv.Itoa(int(h.port)))
		one, err := redirect(dsn, at, "")
		if err != nil {
			return nil, err
		}
		name := h.name
		if slices.ContainsFunc(hosts, func(other host) bool { return other.name == h.name && other.port != h.port }) {
			name = at
		}
		nodes = append(nodes, keeper.Node{Name: name, DSN: one, SuperDSN: one})
	}
	return nodes, nil
}

// withoutPassword is a connection string fit to be printed.
func withoutPassword(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && u.User != nil {
		u.User = url.User(u.User.Username())
		return u.String()
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", config.Host, config.Port, config.User, config.Database)
}
