package demo

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
	"github.com/pgtide/pgtide/lab"
)

// naiveRouter is the router of a thousand tutorials: what reads goes to the
// replicas in turn, all else to the primary.
type naiveRouter struct {
	primary  *naiveNode
	replicas []*naiveNode
	reads    atomic.Uint64
}

type naiveNode struct {
	name string
	role pgtide.Role
	pool *pgxpool.Pool
}

var (
	_ service.Store = (*naiveRouter)(nil)
	_ service.Store = (*pgtide.DB)(nil)
)

func newNaiveRouter(ctx context.Context, c *lab.Cluster) (*naiveRouter, error) {
	n := &naiveRouter{}
	primary := c.Primary().Name()
	for _, node := range c.Nodes() {
		pool, err := pgxpool.New(ctx, node.DSN())
		if err != nil {
			n.close()
			return nil, fmt.Errorf("open a pool for %s: %w", node.Name(), err)
		}
		if node.Name() == primary {
			n.primary = &naiveNode{node.Name(), pgtide.RolePrimary, pool}
		} else {
			n.replicas = append(n.replicas, &naiveNode{node.Name(), pgtide.RoleReplica, pool})
		}
	}
	return n, nil
}

// route picks the pool, and notes it as pgtide's hook does.
func (n *naiveRouter) route(ctx context.Context, sql string) *pgxpool.Pool {
	node := n.primary
	if len(sql) >= 6 && strings.EqualFold(sql[:6], "select") {
		node = n.replicas[n.reads.Add(1)%uint64(len(n.replicas))]
	}
	noteServed(ctx, pgtide.Decision{Node: node.name, Role: node.role, Reason: "naive", Staleness: -1})
	return node.pool
}

func (n *naiveRouter) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return n.route(ctx, sql).Exec(ctx, sql, args...)
}

func (n *naiveRouter) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return n.route(ctx, sql).Query(ctx, sql, args...)
}

func (n *naiveRouter) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return n.route(ctx, sql).QueryRow(ctx, sql, args...)
}

func (n *naiveRouter) close() {
	if n.primary != nil {
		n.primary.pool.Close()
	}
	for _, node := range n.replicas {
		node.pool.Close()
	}
}
