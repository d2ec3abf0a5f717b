package pgtidetest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

// traceLength is how many events a failed test shows.
const traceLength = 64

// event is a statement that was sent to a node, or a decision that none came of.
type event struct {
	at     time.Duration // since the test began
	caller string        // file:line of the program's own code
	node   string
	sql    string // empty until a statement is sent
	args   []any
	// decision is nil for a statement inside a transaction or on an acquired
	// connection: where it went was decided before.
	decision *pgtide.Decision
	ctx      context.Context // the caller's

	done bool
	tag  string // what the server says was done
	err  error
}

// observer is told of events. Neither may block: they are on the caller's way.
type observer struct {
	decided  func(event) // a call is about to go to a node
	finished func(event) // a statement has ended
}

// trace sees what the DBs of a test do.
type trace struct {
	began time.Time

	mu        sync.Mutex // guards the fields below, and the events
	events    []*event
	observers []*observer
}

func newTrace() *trace { return &trace{began: time.Now()} }

// observe tells o of all events until the returned function is called.
func (tr *trace) observe(o *observer) (stop func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.observers = append(tr.observers, o)
	return func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.observers = slices.DeleteFunc(tr.observers, func(other *observer) bool { return other == o })
	}
}

// install has a DB's options tell the trace too.
func (tr *trace) install(o pgtide.Options) pgtide.Options {
	decided := o.Hooks.OnDecision
	o.Hooks.OnDecision = func(ctx context.Context, d pgtide.Decision) context.Context {
		if decided != nil {
			ctx = decided(ctx, d)
		}
		if ctx.Value(quietKey{}) != nil {
			return ctx
		}
		e := tr.add(&event{node: d.Node, decision: &d, caller: caller(), ctx: ctx})
		return context.WithValue(ctx, eventKey{}, e)
	}
	configure := o.Configure
	o.Configure = func(node string, config *pgxpool.Config) error {
		if configure != nil {
			if err := configure(node, config); err != nil {
				return err
			}
		}
		var own pgx.QueryTracer = &tracer{tr, node}
		if given := config.ConnConfig.Tracer; given != nil {
			own = multitracer.New(given, own)
		}
		config.ConnConfig.Tracer = own
		return nil
	}
	return o
}

func (tr *trace) add(e *event) *event {
	e.at = time.Since(tr.began)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.events) == traceLength {
		tr.events = slices.Delete(tr.events, 0, 1)
	}
	tr.events = append(tr.events, e)
	if e.decision != nil {
		for _, o := range tr.observers {
			if o.decided != nil {
				o.decided(*e)
			}
		}
	}
	return e
}

// String lists the newest events for the output of a failed test.
func (tr *trace) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "pgtidetest: the last %d routed statements:", len(tr.events))
	for _, e := range tr.events {
		fmt.Fprintf(&b, "\n\t%s", e)
	}
	return b.String()
}

func (e *event) String() string {
	file, line, _ := strings.Cut(e.caller, ":")
	where := e.node + ": in a transaction or on a connection"
	if e.decision != nil {
		where = e.decision.String()
	}
	s := fmt.Sprintf("%8.1fms  %s:%s  %s", float64(e.at.Microseconds())/1000, filepath.Base(file), line, where)
	if e.sql != "" {
		s += "  " + short(e.sql)
	}
	switch {
	case e.err != nil:
		s += "  → " + e.err.Error()
	case e.done && e.tag != "":
		s += "  → " + e.tag
	case !e.done:
		s += "  → no answer yet"
	}
	return s
}

// short is a statement on one line.
func short(sql string) string {
	const most = 100
	line := []rune(strings.Join(strings.Fields(sql), " "))
	if len(line) > most {
		return string(line[:most-1]) + "…"
	}
	return string(line)
}

// eventKey holds the event of the decision that a call is made with.
type eventKey struct{}

// quietKey marks the calls of this package itself, which a test has not made.
type quietKey struct{}

// tracer sees the statements that reach one node.
type tracer struct {
	trace *trace
	node  string
}

var (
	_ pgx.QueryTracer    = (*tracer)(nil)
	_ pgx.BatchTracer    = (*tracer)(nil)
	_ pgx.CopyFromTracer = (*tracer)(nil)
)

// runningKey holds the event of the statement that runs.
type runningKey struct{}

func (t *tracer) start(ctx context.Context, sql string, args []any) context.Context {
	where := caller()
	if where == "" || ctx.Value(quietKey{}) != nil {
		return ctx // pgtide's own, such as a probe, or this package's
	}
	e, decided := ctx.Value(eventKey{}).(*event)
	t.trace.mu.Lock()
	decided = decided && e.node == t.node && e.sql == ""
	if decided {
		e.sql, e.args = sql, args
	}
	t.trace.mu.Unlock()
	if !decided {
		e = t.trace.add(&event{node: t.node, sql: sql, args: args, caller: where, ctx: ctx})
	}
	return context.WithValue(ctx, runningKey{}, e)
}

func (t *tracer) end(ctx context.Context, tag string, err error) {
	e, ok := ctx.Value(runningKey{}).(*event)
	if !ok {
		return
	}
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	e.done, e.err = true, err
	if tag != "" {
		e.tag = tag
	}
	for _, o := range t.trace.observers {
		if o.finished != nil {
			o.finished(*e)
		}
	}
}

// TraceQueryStart implements [pgx.QueryTracer].
func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return t.start(ctx, d.SQL, d.Args)
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	t.end(ctx, d.CommandTag.String(), d.Err)
}

// TraceBatchStart implements [pgx.BatchTracer].
func (t *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	var all []string
	if d.Batch != nil {
		for _, q := range d.Batch.QueuedQueries {
			all = append(all, q.SQL)
		}
	}
	return t.start(ctx, strings.Join(all, "; "), nil)
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (t *tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	e, ok := ctx.Value(runningKey{}).(*event)
	if !ok {
		return
	}
	t.trace.mu.Lock()
	defer t.trace.mu.Unlock()
	if e.tag != "" {
		e.tag += "; "
	}
	e.tag += d.CommandTag.String()
}

// TraceBatchEnd implements [pgx.BatchTracer].
func (t *tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	t.end(ctx, "", d.Err)
}

// TraceCopyFromStart implements [pgx.CopyFromTracer].
func (t *tracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromStartData) context.Context {
	return t.start(ctx, "copy "+d.TableName.Sanitize()+" from stdin", nil)
}

// TraceCopyFromEnd implements [pgx.CopyFromTracer].
func (t *tracer) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceCopyFromEndData) {
	t.end(ctx, d.CommandTag.String(), d.Err)
}
