package pgtide

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/topology"
)

// PrimaryPool returns a pool whose connections lead to the primary, whichever
// node that is: for libraries that take nothing but a *pgxpool.Pool, such as a
// job queue. It is made by the first call, is the same one ever after, and is
// closed with db: whoever uses it has to stop before. While no nodes are known it
// cannot be made: see [Options.Degraded].
//
// Its size and settings are those of the first node's pool, and its connections
// are its own: they count beside that pool's at the primary. A new connection
// waits for a primary at most [Options.FailoverWait]. When another node becomes
// the primary, all connections to the one before are closed, in use or not, and
// those that were taken out of the pool to listen on.
//
// What is written through it counts for later reads of db, and for those of the
// session in the context it is called with. Calls are not made again by
// pgtide, and their errors are pgx's own.
func (db *DB) PrimaryPool() (*pgxpool.Pool, error) {
	db.primaryMaking.Lock()
	defer db.primaryMaking.Unlock()
	if db.isClosed() {
		return nil, ErrClosed
	}
	if db.primaryPool.Load() == nil {
		if err := db.makePrimaryPool(); err != nil {
			return nil, err
		}
	}
	return db.primaryPool.Load(), nil
}

func (db *DB) makePrimaryPool() error {
	nodes := db.roster.Load().nodes()
	if len(nodes) == 0 {
		return fmt.Errorf("primary pool: %w: no nodes are known yet", ErrNoPrimary)
	}
	config := nodes[0].pool.Config()
	config.BeforeConnect = db.aimAtPrimary
	greet := nodes[0].greet
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := db.recognise(ctx, nodeOf(conn), conn); err != nil {
			return err
		}
		if greet != nil {
			return greet(ctx, conn)
		}
		return nil
	}
	prepare := config.PrepareConn
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if !db.isPrimary(nodeOf(conn)) {
			return false, nil
		}
		if prepare != nil {
			return prepare(ctx, conn)
		}
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return fmt.Errorf("primary pool: %w", err)
	}
	db.primaryPool.Store(pool)
	return nil
}

// nodeData is where a connection of the primary pool keeps its node.
const nodeData = "pgtide node"

func nodeOf(conn *pgx.Conn) *node {
	n, _ := conn.PgConn().CustomData()[nodeData].(*node)
	return n
}

// isPrimary reports whether n is what is written to, as last observed.
func (db *DB) isPrimary(n *node) bool { return n.id == idOfPrimary(db.watch.View()) }

// aimAtPrimary makes config, of a connection about to be made, that of the
// primary. It waits for one.
func (db *DB) aimAtPrimary(ctx context.Context, config *pgx.ConnConfig) error {
	c := db.newCall(context.Background(), route.Write)
	if err := c.place(ctx); err != nil {
		return err
	}
	n := c.node
	if err := n.learn(ctx); err != nil {
		return err
	}
	*config = *n.pool.Config().ConnConfig
	if n.prepare != nil {
		if err := n.prepare(ctx, config); err != nil {
			return err
		}
	}
	n.pooling.shape(config)
	config.DialFunc = db.dialPrimary(n, config.DialFunc)
	after := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[nodeData] = n
		if after != nil {
			return after(ctx, conn)
		}
		return nil
	}
	tracers := []pgx.QueryTracer{&writeTracer{db}}
	if config.Tracer != nil {
		tracers = append(tracers, config.Tracer)
	}
	config.Tracer = multitracer.New(tracers...)
	return nil
}

// writeTracer notes what is written on connections that pgtide does not route.
type writeTracer struct{ db *DB }

var (
	_ pgx.QueryTracer    = (*writeTracer)(nil)
	_ pgx.BatchTracer    = (*writeTracer)(nil)
	_ pgx.CopyFromTracer = (*writeTracer)(nil)
)

type tracedReadKey struct{}

// TraceQueryStart implements [pgx.QueryTracer].
func (t *writeTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if v := t.db.kinds.Classify(data.SQL); v.Kind == sqlkind.Read && !v.Calls && !rewritten(data.Args) {
		return context.WithValue(ctx, tracedReadKey{}, true)
	}
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *writeTracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if ctx.Value(tracedReadKey{}) == nil {
		t.note(ctx, conn, data.Err)
	}
}

// TraceBatchStart implements [pgx.BatchTracer].
func (t *writeTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (t *writeTracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (t *writeTracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	t.note(ctx, conn, data.Err)
}

// TraceCopyFromStart implements [pgx.CopyFromTracer].
func (t *writeTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return ctx
}

// TraceCopyFromEnd implements [pgx.CopyFromTracer].
func (t *writeTracer) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.note(ctx, conn, data.Err)
}

// note counts a write that has returned. Its position is not asked for: the next
// sample of the primary covers it.
func (t *writeTracer) note(ctx context.Context, conn *pgx.Conn, err error) {
	n := nodeOf(conn)
	if n == nil {
		return
	}
	seen := t.db.seen(n)
	if seen == nil {
		seen = &topology.Node{}
	}
	var st *state
	if s := scopeOf(ctx).session; s != nil {
		st = s.state(t.db)
	}
	t.db.wrote(st, nil, seen, err == nil)
	if err == nil {
		return
	}
	var pg *pgconn.PgError
	answered := errors.As(err, &pg)
	if !answered && conn.IsClosed() || answered && (pg.Code == codeReadOnlyTransaction || down(pg.Code) || fromPooler(pg)) {
		t.db.watch.Kick(1 << uint(n.place))
	}
}
