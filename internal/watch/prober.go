package watch

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/topology"
)

// rush is the time between two probes of a node that somebody waits for, and
// the least time between any two. It bounds both the cost of waiting to the
// server and what waiting adds to a replica's own delay.
const rush = time.Millisecond

// reconnect is the least time between two attempts to connect. Each costs the
// server a process, and one that is starting up has none to spare.
const reconnect = 20 * time.Millisecond

// prober looks at one node.
type prober struct {
	watcher *Watcher
	place   int
	id      uint32
	node    Node
	context context.Context
	stop    context.CancelFunc
	waiters atomic.Int32
	probes  atomic.Int64
	kicked  chan struct{}
	stale   atomic.Bool // the connection may lead elsewhere than a new one would
	lookups lookups
	asked   asked
	tables  tables    // if it is a subscriber, or a primary that has some
	mute    time.Time // until when a primary is not asked what it sends

	conn      *pgx.Conn // nil when there is none
	pooled    bool      // conn leads through a pooler, which may lead elsewhere by now
	seen      int64     // the incarnation that answered last on conn; zero is none
	geometry  topology.Geometry
	systemID  uint64
	mayOrigin bool // of a subscriber: the role may ask how far its origin is
}

func newProber(w *Watcher, place int, id uint32, n Node) *prober {
	n.Config = n.Config.Copy()
	n.Config.ConnectTimeout = w.options.Timeout
	if n.Config.RuntimeParams["application_name"] == "" {
		n.Config.RuntimeParams["application_name"] = "pgtide watch"
	}
	p := &prober{watcher: w, place: place, id: id, node: n, kicked: make(chan struct{}, 1)}
	p.context, p.stop = context.WithCancel(w.context)
	return p
}

func (p *prober) wake() {
	select {
	case p.kicked <- struct{}{}:
	default: // a probe is already due
	}
}

func (p *prober) run() {
	defer p.disconnect()
	for ctx := p.context; ctx.Err() == nil; {
		began := time.Now()
		o := p.probe(ctx)
		if ctx.Err() != nil {
			return // a probe cut short by Close says nothing of the node
		}
		p.watcher.observe(p, o)
		if o.Err == nil {
			p.learn(o)
		}
		p.rest(ctx, began)
	}
}

// rest waits until the next probe is due, the last one having been sent at
// began.
func (p *prober) rest(ctx context.Context, began time.Time) {
	pause, least := p.watcher.options.Rules.Interval, rush
	if p.conn == nil {
		least = reconnect
	}
	if p.waiters.Load() > 0 {
		pause = least
	}
	timer := time.NewTimer(time.Until(began.Add(pause)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.kicked:
		if d := time.Until(began.Add(least)); d > 0 {
			timer.Reset(d)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
}

func (p *prober) probe(ctx context.Context) topology.Observation {
	p.probes.Add(1)
	if p.stale.Swap(false) || p.moved() {
		p.disconnect()
	}
	ctx, cancel := context.WithTimeout(ctx, p.watcher.options.Timeout)
	defer cancel()
	o := topology.Observation{
		Node:   p.place,
		Writes: p.watcher.options.Writes(),
		Start:  p.watcher.Now(),
	}
	if p.node.Calls != nil {
		o.Served, o.Busy = p.node.Calls()
	}
	if err := p.look(ctx, &o); err != nil {
		p.disconnect()
		return topology.Observation{
			Node: p.place, Start: o.Start, Silent: ctx.Err() != nil,
			Err: fmt.Errorf("probe node %q: %w", p.node.Name, err),
		}
	}
	o.End = p.watcher.Now()
	return o
}

// look fills in o. Connecting takes a while, and a position is only worth as
// much as the time before which it was surely asked for: so a new connection
// is made and made known before o's clock starts.
func (p *prober) look(ctx context.Context, o *topology.Observation) error {
	if p.conn == nil {
		if err := p.connect(ctx); err != nil {
			return err
		}
		o.Writes, o.Start = p.watcher.options.Writes(), p.watcher.Now()
	}
	o.SystemID, o.Geometry = p.systemID, p.geometry
	if p.node.Subscription != "" {
		return p.lookSubscriber(ctx, o)
	}
	var recovery bool
	var position, receive, replayed, walFile *string
	var timeline *int64
	err := p.conn.QueryRow(ctx, probeQuery, p.mode()).Scan(&recovery, &position, &receive, &replayed, &timeline, &walFile,
		&o.Paused, &o.Incarnation, &o.Version)
	if err != nil {
		return err
	}
	if p.pooled && p.seen != 0 && p.seen != o.Incarnation {
		p.disconnect() // it may be another server: ask it for its identity
		return p.look(ctx, o)
	}
	p.seen = o.Incarnation
	o.Role = topology.Primary
	if recovery {
		o.Role = topology.Replica
	}
	for _, f := range []struct {
		text *string
		lsn  *topology.LSN
	}{{position, &o.Position.LSN}, {receive, &o.Receive}, {replayed, &o.RecoveryEnd}} {
		if f.text == nil {
			continue
		}
		if *f.lsn, err = topology.ParseLSN(*f.text); err != nil {
			return err
		}
	}
	switch {
	case timeline != nil:
		o.Position.Timeline = uint32(*timeline)
	case walFile != nil && len(*walFile) == 24:
		t, err := strconv.ParseUint((*walFile)[:8], 16, 32)
		if err != nil {
			return fmt.Errorf("parse WAL file name %q: %w", *walFile, err)
		}
		o.Position.Timeline = uint32(t)
	}
	if recovery {
		o.RecoveryEnd = 0
	} else {
		o.Position.LSN = p.geometry.Normalize(o.Position.LSN)
		p.lookOut(ctx, o)
	}
	return nil
}

func (p *prober) connect(ctx context.Context) error {
	config := p.node.Config
	if f := p.node.Prepare; f != nil {
		config = config.Copy()
		if err := f(ctx, config); err != nil {
			return err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	p.conn, p.seen = conn, 0
	p.tables.mark = "" // it may lead to another server
	var id string
	var page, segment int64
	var pid uint32
	if err := conn.QueryRow(ctx, identityQuery, pgx.QueryExecModeSimpleProtocol).Scan(&id, &page, &segment, &pid); err != nil {
		return fmt.Errorf("ask for the system identifier: %w", err)
	}
	p.pooled = pid != conn.PgConn().PID()
	p.geometry = topology.Geometry{Page: uint64(page), Segment: uint64(segment)}
	if p.systemID, err = strconv.ParseUint(id, 10, 64); err != nil {
		return fmt.Errorf("parse system identifier %q: %w", id, err)
	}
	if p.node.Subscription != "" {
		if p.pooled {
			return ErrPooledSubscriber
		}
		if err := conn.QueryRow(ctx, mayOriginQuery).Scan(&p.mayOrigin); err != nil {
			return fmt.Errorf("ask for what the role may see: %w", err)
		}
	}
	return nil
}

// mode is how the query is sent: through a pooler nothing lasts but a request.
func (p *prober) mode() pgx.QueryExecMode {
	if p.pooled {
		return pgx.QueryExecModeExec
	}
	return p.node.Config.DefaultQueryExecMode
}

func (p *prober) disconnect() {
	if p.conn == nil {
		return
	}
	// The connection may be dead: do not wait long for a goodbye.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.conn.Close(ctx)
	p.conn = nil
}
