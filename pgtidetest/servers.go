package pgtidetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// source is where a test's cluster comes from: a lease, or an existing one.
type source interface {
	Cluster() keeper.Cluster
	Fault(ctx context.Context, fault, node string) error
	End(keep time.Duration) error
}

// servers are connections to the nodes past the DB, as a superuser, to make
// databases and to hold back replay. Each is for one caller at a time.
type servers struct {
	dsns map[string]string // by node

	mu    sync.Mutex // guards conns; held by whoever uses one
	conns map[string]*pgx.Conn
}

func newServers(nodes []keeper.Node) *servers {
	s := &servers{dsns: map[string]string{}, conns: map[string]*pgx.Conn{}}
	for _, n := range nodes {
		s.dsns[n.Name] = n.SuperDSN
	}
	return s
}

// connect opens what is missing of the connections to these nodes, all at once.
func (s *servers) connect(ctx context.Context, nodes ...string) error {
	type result struct {
		node string
		conn *pgx.Conn
		err  error
	}
	results := make(chan result, len(nodes))
	for _, node := range nodes {
		if conn := s.conns[node]; conn != nil && !conn.IsClosed() {
			results <- result{node, conn, nil}
			continue
		}
		go func() {
			conn, err := s.open(ctx, node)
			results <- result{node, conn, err}
		}()
	}
	var err error
	for range nodes {
		r := <-results
		if r.err != nil {
			err = r.err
			continue
		}
		s.conns[r.node] = r.conn
	}
	return err
}

func (s *servers) open(ctx context.Context, node string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.dsns[node])
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", node, err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.RuntimeParams["application_name"] = "pgtidetest"
	config.ValidateConnect, config.Fallbacks = nil, nil
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", node, err)
	}
	return conn, nil
}

// conn returns the connection to a node, a new one if it was lost.
func (s *servers) conn(ctx context.Context, node string) (*pgx.Conn, error) {
	if conn := s.conns[node]; conn != nil && !conn.IsClosed() && conn.Ping(ctx) != nil {
		conn.Close(ctx)
	}
	if err := s.connect(ctx, node); err != nil {
		return nil, err
	}
	return s.conns[node], nil
}

// close does not wait for servers that do not answer.
func (s *servers) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, conn := range s.conns {
		all.Go(func() { conn.Close(ctx) })
	}
	all.Wait()
}

// address returns the host and port that a connection string leads to.
func address(dsn string) (string, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))), nil
}

// redirect returns dsn for another address and database. Empty leaves either as
// it is.
func redirect(dsn, address, database string) (string, error) {
	if !strings.Contains(dsn, "://") {
		// Of a parameter that is given twice the last one holds.
		if address != "" {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return "", err
			}
			dsn += " host='" + host + "' port=" + port
		}
		if database != "" {
			dsn += " dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'"
		}
		return dsn, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("%s is not an address that a connection string can hold", address)
	}
	if address != "" {
		u.Host = address
	}
	if database != "" {
		u.Path = "/" + database
	}
	return u.String(), nil
}
