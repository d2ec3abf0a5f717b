package pgtide

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/front"
	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/stamp"
	"github.com/pgtide/pgtide/internal/topology"
)

// call is one call of the user, from the request to its last attempt.
//
// Every kind of call has the same life: acquire a connection on the node that
// the router says, use it, give it back with done, and go round again when done
// says so.
type call struct {
	db  *DB
	sql string // the statement, when there is just one to learn about
	// several are the statements of a batch.
	several []*pgx.QueuedQuery
	// mayCall says that it calls functions that may write. A standby would refuse
	// those; a primary does not.
	mayCall bool
	// unseen marks a batch: pgx sends some past the place where it can be seen.
	unseen bool
	// leaves says that the call may leave something in its server session.
	leaves bool
	detail string // what about the statement decided
	state  *state // nil outside a session
	req    route.Request
	// begin marks a call that only opens something: a transaction or a
	// connection. Nothing is lost by asking for it again elsewhere.
	begin bool

	// withheld keeps a read at the primary although a replica could serve it.
	withheld bool

	allowed   Guard         // what becomes of writes
	remark    string        // what the caller's context says of the call
	named     string        // the node that the caller named
	group     string        // the group that the caller named
	take      front.Take    // how to take a connection
	waitSince time.Duration // when the call began to wait for a replica; zero is never
	lackSince time.Duration // when it first found no primary; zero is never
	// crowdSince is when it first found no place at the primary; zero is never.
	crowdSince time.Duration
	waited     time.Duration // how long it has waited in all

	// Of the attempt under way:
	ctx      context.Context // the caller's, or what a hook made of it
	view     *topology.View
	node     *node
	reason   route.Reason
	decision Decision
	would    route.Decision // what Shadow stands for
	conn     front.Connection
	link     *link         // of conn, if it has one
	began    time.Duration // when it was sent to a replica; zero is not counted
	wire     *stamp.Conn   // of a write, if its connection has one
	sent     uint64        // bytes that wire had sent before
	armed    bool          // the write is to be stamped
	guarded  bool          // the read is to be refused by another run of the server
	spilled  bool          // holds a place in db.spill
	handed   bool          // a part of the result was handed out
	calls    bool          // a read at a primary that may write all the same

	// Of the attempts before it:
	attempt  int
	failures int
	failedAt time.Duration
	lastErr  error
	refused  bool // by lastErr, a primary did not want to write
}

// load lets the router see how busy nodes are.
type load struct{ db *DB }

func (l load) InFlight(place int) int64 {
	if r := l.db.roster.Load(); place < len(r.places) && r.places[place] != nil {
		return r.places[place].inFlight.Load()
	}
	return 0
}

// newCall makes a call out of what its statement is and what ctx says.
func (db *DB) newCall(ctx context.Context, write route.Reason) call {
	s := scopeOf(ctx)
	c := call{db: db, take: takePlain, named: s.node, group: s.group, remark: s.note, allowed: db.guardOf(s)}
	c.req = route.Request{Write: write, Target: s.target, Last: topology.NoNode, Random: rand.Uint64()}
	consistency := s.consistency
	if consistency == 0 {
		consistency = db.options.Consistency
	}
	var bound time.Duration
	c.req.Level, bound = consistency.level()
	c.req.MaxStaleness = db.options.MaxStaleness
	c.req.MaxLag = uint64(db.options.MaxLag)
	if s.maxLag > 0 && (uint64(s.maxLag) < c.req.MaxLag || c.req.MaxLag == 0) {
		c.req.MaxLag = uint64(s.maxLag)
	}
	c.balance()
	if bound > 0 && (bound < c.req.MaxStaleness || c.req.MaxStaleness == 0) {
		c.req.MaxStaleness = bound
	}
	if s.session != nil {
		c.state = s.session.state(db)
	}
	share := db.options.ReadShare
	if s.shared {
		share = s.share
	}
	c.withheld = !(share >= 1) && !(rand.Float64() < share) // also for what is no number
	return c
}

// statement makes a call for one statement. rewritten says that another will be
// sent: then nothing is known of it but the hint, and nothing learned from it.
func (db *DB) statement(ctx context.Context, sql string, rewritten bool) call {
	v := db.kinds.Classify(sql)
	if rewritten {
		v.Kind, v.Reason, v.Calls, v.Leaves = sqlkind.Unknown, "query rewriter", false, v.Hint.Session
	}
	c := db.newCall(ctx, writeReason(v.Kind))
	c.mayCall, c.leaves = v.Calls, v.Leaves
	if !rewritten {
		c.sql = sql
	}
	if v.Kind != sqlkind.Read {
		c.detail = v.Reason
	}
	if v.Hint != (sqlkind.Hint{}) {
		c.follow(v.Hint)
	}
	return c
}

// follow does what a comment in front of the statement says: it is nearer to
// the statement than any context.
func (c *call) follow(h sqlkind.Hint) {
	switch h.Target {
	case sqlkind.Primary:
		c.req.Target = route.ToPrimary
	case sqlkind.Replica:
		c.req.Target = route.ToReplica
	case sqlkind.NamedNode:
		c.req.Target, c.named = route.ToNode, h.Node
	}
	if h.Target != 0 {
		c.group = ""
	}
	if h.MaxStaleness > 0 {
		if c.req.MaxStaleness == 0 || h.MaxStaleness < c.req.MaxStaleness {
			c.req.MaxStaleness = h.MaxStaleness
		}
		if c.req.Level < route.Bounded || c.req.Level == route.ReadYourWrites {
			c.req.Level = route.Bounded
		}
	}
}

// rewritten reports whether args have pgx send another statement than the text.
func rewritten(args []any) bool {
	return front.Rewritten(len(args), func(i int) any { return args[i] })
}

func writeReason(k sqlkind.Kind) route.Reason {
	switch k {
	case sqlkind.Read:
		return route.ReasonNone
	case sqlkind.Write:
		return route.Write
	case sqlkind.Session:
		return route.SessionBound
	}
	return route.Unclassified
}

// acquire finds a node for the next attempt and takes a connection to it.
func (c *call) acquire(ctx context.Context) error {
	for {
		if c.db.isClosed() {
			return ErrClosed
		}
		if !c.begin && (c.attempt == 0 || c.req.Write == route.Refused) {
			if err := c.db.guard(ctx, c.allowed, c.req.Write, c.detail); err != nil {
				return err
			}
		}
		if err := c.place(ctx); err != nil {
			return err
		}
		if err := c.guardRead(ctx); err != nil {
			return err
		}
		c.attempt++
		c.decision.Attempt, c.decision.Detail, c.decision.Note = c.attempt, c.detail, c.remark
		c.db.stat.decided(c.reason)
		if c.reason == route.Shadow {
			c.db.wouldBe(c.view, c.would)
		}
		if c.state != nil {
			c.state.session.record(c.decision)
		}
		c.ctx = ctx
		if f := c.db.options.Hooks.OnDecision; f != nil {
			c.ctx = f(ctx, c.decision)
		}
		c.calls = c.mayCall && c.req.Write == route.ReasonNone && !c.role().Follows()
		c.node.inFlight.Add(1)
		conn, err := c.connect()
		if err == nil {
			c.conn = conn
			c.lend()
			return nil
		}
		err = fmt.Errorf("connect to node %q: %w", c.node.name(), err)
		c.leave()
		again, err := c.judge(err, attempt{})
		if !again {
			return err
		}
	}
}

// done ends an attempt that ended with err: it gives the connection back and
// notes what was written or read. again says to make another attempt; else the
// error it returns is the caller's.
func (c *call) done(err error) (again bool, _ error) {
	a := attempt{connected: true, sent: !c.untouched(), broken: c.conn.Conn().IsClosed()}
	unproven := c.unproven(err)
	if !unproven {
		c.note(err == nil)
	}
	c.giveBack()
	if unproven {
		return c.judge(c.node.restarted(), attempt{})
	}
	if err == nil {
		if c.req.Write == route.Refused && c.sql != "" {
			c.db.kinds.Learn(c.sql, sqlkind.Write, "refused by a standby")
		}
		c.result(nil, false)
		return false, nil
	}
	return c.judge(err, a)
}

// abandon gives the connection back when code of the caller's has panicked: an
// argument that encodes itself, a tracer. After done it does nothing.
func (c *call) abandon() {
	if c.conn == nil {
		return
	}
	c.note(false)
	c.giveBack()
}

// further notes a statement on the connection that the call holds, made with ctx,
// and what it may leave there. It returns an error if it must not be sent.
func (c *call) further(ctx context.Context, sql string) error {
	v := c.db.kinds.Classify(sql)
	c.leaves = c.leaves || v.Leaves
	if err := c.published(sql, v); err != nil {
		return err
	}
	return c.db.guard(ctx, c.db.guardOf(scopeOf(ctx)), writeReason(v.Kind), v.Reason)
}

// furtherBatch is further for all statements of b.
func (c *call) furtherBatch(ctx context.Context, b *pgx.Batch) error {
	for _, q := range b.QueuedQueries {
		err := error(nil)
		if rewritten(q.Arguments) {
			err = c.furtherRewritten(ctx)
		} else {
			err = c.further(ctx, q.SQL)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// furtherCopy is further for COPY.
func (c *call) furtherCopy(ctx context.Context) error {
	return c.db.guard(ctx, c.db.guardOf(scopeOf(ctx)), route.Write, "COPY")
}

// giveBack ends the attempt's hold of its connection. One whose session may not
// be as it was is closed: its next user would meet what was left.
func (c *call) giveBack() {
	c.unproven(nil)
	if c.leaves {
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = c.conn.Conn().Close(soon)
		cancel()
	}
	if c.link != nil {
		c.link.use.Store(uint32(idle))
	}
	c.conn.Release()
	c.conn = nil
	c.leave()
}

// leave ends the attempt's claim on its node.
func (c *call) leave() {
	c.node.inFlight.Add(-1)
	if c.spilled {
		<-c.db.spill
		c.spilled = false
	}
}

func (c *call) result(err error, again bool) {
	if f := c.db.options.Hooks.OnResult; f != nil {
		f(c.ctx, c.decision, err, again)
	}
}

// judge decides what the failure of an attempt means.
func (c *call) judge(err error, a attempt) (again bool, _ error) {
	a.write, a.handed = c.writes(), c.handed
	a.replica, a.subscriber = c.role().Follows(), c.role() == topology.Subscriber
	v := judge(c.ctx.Err(), err, a)
	if v.conflict {
		c.node.conflicts.Add(1)
	}
	if v.suspect {
		c.db.watch.Kick(1 << uint(c.node.place))
	}
	left := c.node.left.Load()
	if c.req.Target == route.ToNode && v.next != outcomeUnknown && (a.connected || !left) {
		v.next = giveUp
	}
	if v.learn && c.sql != "" {
		c.db.kinds.Learn(c.sql, sqlkind.Write, "refused by a standby")
	}
	switch v.next {
	case outcomeUnknown:
		c.db.stat.unknown.Add(1)
		err = &OutcomeUnknownError{Node: c.node.name(), Err: err}
	case onPrimary:
		c.req.Write = route.Refused
	case elsewhere:
		if v.lacks {
			c.unfit()
		}
		if !left { // its place may be another's
			c.req.Tried |= 1 << uint(c.node.place)
		}
		c.refused, c.failures = v.refused, c.failures+1
	}
	again = v.next == elsewhere || v.next == onPrimary
	if again {
		c.db.stat.retries.Add(1)
	}
	c.failedAt, c.lastErr = c.db.watch.Now(), err
	c.result(err, again)
	return again, err
}
