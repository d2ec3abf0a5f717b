package pgtide

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// errPooled says that a new connection leads through a pooler and would have
// worked without one only. The next one is made to work.
var errPooled = errors.New("a pooler was found in front of the server")

// pooling is what is known of a pooler between the program and a node: one that
// may give each transaction another server connection. There is no other sign of
// it than that the process it names is not the one that answers. Once found, it
// is taken to be there for good.
type pooling struct {
	chosen bool // the caller has chosen a statement mode
	known  atomic.Bool
	found  atomic.Bool
	met    atomic.Pointer[run]
	proof  atomic.Pointer[runProof]
}

// run is one run of a server.
type run struct {
	incarnation int64
	started     int64 // in microseconds, a part of incarnation
}

// note notes what answered on a new connection: process pid of r.
func (p *pooling) note(conn *pgx.Conn, pid uint32, r run) error {
	if conn.PgConn().PID() == pid && !p.found.Load() {
		p.known.Store(true)
		return nil
	}
	p.found.Store(true)
	p.known.Store(true)
	p.met.Store(&r)
	if wire := stamp.From(conn.PgConn()); wire != nil {
		wire.Ask(positionAndRun)
	}
	if p.unfit(conn.Config().DefaultQueryExecMode) {
		return errPooled
	}
	return nil
}

// unfit reports whether connections through the pooler need another statement
// mode. One uses statements that it has prepared before, which a pooler must know
// to follow: many do not. The other executes in a second request what a first one
// has left in the server session, and that may be another's by then.
func (p *pooling) unfit(mode pgx.QueryExecMode) bool {
	return mode == pgx.QueryExecModeCacheStatement && !p.chosen || mode == pgx.QueryExecModeDescribeExec
}

// shape makes config, of a connection about to be made, one that a pooler in the
// way does not break.
func (p *pooling) shape(config *pgx.ConnConfig) {
	if !p.found.Load() || !p.unfit(config.DefaultQueryExecMode) {
		return
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	if config.DescriptionCacheCapacity == 0 {
		config.DescriptionCacheCapacity = 512 // as pgx has it
	}
}

// learn finds out whether n has a pooler, if no connection has been made yet.
func (n *node) learn(ctx context.Context) error {
	if n.pooling.known.Load() {
		return nil
	}
	conn, err := n.pool.Acquire(ctx)
	if err == nil {
		conn.Release()
	}
	if errors.Is(err, errPooled) {
		return nil
	}
	return err
}

// choosesMode reports whether the connection string says how pgx is to run
// statements. A parsed one does not tell the default from the same, chosen.
func choosesMode(dsn string) bool {
	c, err := pgconn.ParseConfig(dsn)
	return err == nil && c.RuntimeParams["default_query_exec_mode"] != ""
}

// positionAndRun is what a stamp asks through a pooler: the connection does not
// say which run of the server the position is of.
var positionAndRun = stamp.NewQuestion(stamp.Position + " || '@' || " + watch.Incarnation)

// placed takes apart what [positionAndRun] or [stamp.Position] is answered with.
// It reports false if that came from another run of the server than n's.
func placed(text string, n *topology.Node) (lsn string, ok bool) {
	lsn, run, asked := strings.Cut(text, "@")
	if !asked {
		return text, true
	}
	return lsn, run == strconv.FormatInt(n.Incarnation, 10)
}

// runProof is the guard of one run of a server.
type runProof struct {
	incarnation int64
	replayed    topology.LSN
	guard       *stamp.Guard
}

// prove returns the guard that fails unless the server is the one that n was seen
// as, and has what n had.
func (p *pooling) prove(n *topology.Node) *stamp.Guard {
	var replayed topology.LSN
	if n.Role == topology.Replica && n.Version < 150000 {
		replayed = n.Position.LSN // a crash does not show in its incarnation
	}
	if have := p.proof.Load(); have != nil && have.incarnation == n.Incarnation && have.replayed == replayed {
		return have.guard
	}
	is := fmt.Sprintf("(%s) = %d", watch.Incarnation, n.Incarnation)
	if r := p.met.Load(); r != nil && r.incarnation == n.Incarnation {
		is = "pg_postmaster_start_time() = " + timestamp(r.started) // the same, without arithmetic
		if n.Version >= 150000 {
			is += " and pg_stat_get_bgwriter_stat_reset_time() = " + timestamp(r.incarnation-r.started)
		}
	}
	if replayed != 0 {
		is += fmt.Sprintf(" and coalesce(pg_last_wal_replay_lsn() >= '%v', true)", replayed)
	}
	proof := &runProof{n.Incarnation, replayed, stamp.NewGuard(
		"select case when " + is + " then 0 else ('pgtide: this is another run of the server, in process ' || pg_backend_pid())::int end")}
	p.proof.Store(proof)
	return proof.guard
}

func timestamp(micro int64) string {
	return time.UnixMicro(micro).UTC().Format("timestamptz '2006-01-02 15:04:05.000000+00'")
}

// verify has the server refuse the call's request unless it is in the run that
// the decision was made for. A connection to a server need not: it has proven
// where it leads when it was made, and breaks with the run. Through a pooler it
// lives on, and leads to the next one.
func (c *call) verify() {
	c.guarded = false
	if !c.node.pooling.found.Load() || c.req.Level == route.Eventual || c.req.Write != route.ReasonNone && !c.role().Follows() {
		return
	}
	if c.wire = stamp.From(c.conn.Conn().PgConn()); c.wire == nil {
		return
	}
	c.wire.Guard(c.node.pooling.prove(&c.view.Nodes[c.node.place]))
	c.sent, c.guarded = c.wire.Sent(), true
}

// unproven ends what verify began and reports whether the request was refused.
// err is the attempt's.
func (c *call) unproven(err error) bool {
	if !c.guarded {
		return false
	}
	c.guarded = false
	refused, shift := c.wire.Refused()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && int(pg.Position) > shift {
		pg.Position -= int32(shift)
	}
	return refused
}

// What poolers say by themselves, under a code that they use for everything: the
// first of these when they have nobody to give the request to.
var (
	poolerUnserved = []string{
		"query_wait_timeout",
		"server login has been failing", // and is tried again after a while
		"pgbouncer cannot connect to server",
		"client_login_timeout (server down)",
		"client_idle_timeout",
		"server shutting down",
	}
	poolerLost = []string{"server conn crashed?"}
	poolerSlow = []string{"query timeout", "query_timeout"}
)

// codePooler is the protocol violation that PgBouncer calls all its errors. A
// server's own is as fatal to the connection.
const codePooler = "08P01"

// fromPooler reports whether pg is a pooler's word, or as good as that: its
// connection to the server, or to the program, has ended.
func fromPooler(pg *pgconn.PgError) bool {
	return pg != nil && pg.Code == codePooler && pg.Severity == "FATAL"
}

// unserved reports whether a pooler says that it has given the request to nobody.
func unserved(pg *pgconn.PgError) bool { return fromPooler(pg) && says(pg, poolerUnserved) }

func says(pg *pgconn.PgError, texts []string) bool {
	for _, text := range texts {
		if strings.HasPrefix(pg.Message, text) {
			return true
		}
	}
	return false
}

// pooler judges what a pooler says of a request that it has taken.
func pooler(pg *pgconn.PgError, a attempt) verdict {
	switch {
	case says(pg, poolerUnserved) && a.handed: // rows to copy, which are used up
		return verdict{suspect: true}
	case says(pg, poolerUnserved):
		return verdict{next: elsewhere, suspect: true}
	case a.write:
		return verdict{next: outcomeUnknown, suspect: true}
	case a.handed, says(pg, poolerSlow):
		return verdict{suspect: true}
	}
	return verdict{next: elsewhere, suspect: true}
}

// mendPooler says what to do about an error of a pooler that stays until somebody
// does it.
func mendPooler(pg *pgconn.PgError) string {
	switch {
	case !fromPooler(pg):
	case strings.HasPrefix(pg.Message, "unsupported startup parameter"):
		return "take the parameter out of its DSN, or name it in ignore_startup_parameters of the pooler"
	case strings.HasPrefix(pg.Message, "no such database"):
		return "add the database to the pooler's, or name another in its DSN"
	case strings.HasPrefix(pg.Message, "no such user"), strings.Contains(pg.Message, "authentication failed"):
		return "check the user and password in its DSN, and the pooler's list of users"
	}
	return ""
}
