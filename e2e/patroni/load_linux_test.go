package patroni_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
)

const (
	clients = 8
	// pace is what a client waits between two requests: this is a test of what
	// happens, not of how much.
	pace = 4 * time.Millisecond
)

// load is clients that write and read what they wrote, through two programs
// with a DB each that share nothing but tokens.
type load struct {
	t        *testing.T
	ctx      context.Context // outlives the test's, that calls end as they would
	programs [2]*app
	stop     atomic.Bool
	group    sync.WaitGroup

	requests atomic.Int64 // that were served
	replays  atomic.Int64 // writes that were made again, as nobody knew of the first
	told     atomic.Int64 // requests that were told of a lost write

	mu      sync.Mutex // guards the fields below
	writes  []write
	last    time.Time     // when a write was last acknowledged
	longest time.Duration // time without a write, since it was last asked for
}

// write is a plain insert, which is never made twice.
type write struct {
	id    string
	acked bool // else nobody knows
	// session is what wrote it, and by its deeds goes on through its program.
	session context.Context
	program *app
}

// app is one program and what it has found.
type app struct {
	*pgtide.DB
	mu     sync.Mutex // guards the fields below
	served map[string]int
	events []string
}

const schema = `
create table entry (id text not null);
create table safe (id text primary key);
`

// open opens a DB that finds its nodes as c's members have them.
func (c *cluster) open(t *testing.T) *app {
	t.Helper()
	p := &app{served: map[string]int{}}
	db, err := pgtide.Open(t.Context(), pgtide.Options{
		Discover:         discover.Patroni{Endpoints: c.endpoints(), DSN: "postgres://app@/shop?sslmode=disable"},
		DiscoverInterval: 500 * time.Millisecond,
		FailoverWait:     patience,
		Hooks: pgtide.Hooks{
			OnDecision: func(ctx context.Context, d pgtide.Decision) context.Context {
				p.mu.Lock()
				defer p.mu.Unlock()
				if d.Role == pgtide.RoleReplica {
					p.served[d.Node]++
				}
				return ctx
			},
			OnDiscover: func(joined, left []string, err error) { p.note("joined %q, left %q, error %v", joined, left, err) },
			OnPrimary:  func(before, after string, split bool) { p.note("primary %q, was %q, split %v", after, before, split) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.DB = db
	t.Cleanup(db.Close)
	return p
}

func (a *app) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// names are those of the nodes, in order.
func (a *app) names() []string {
	var all []string
	for _, n := range a.Nodes() {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	return all
}

func (a *app) reads(node string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.served[node]
}

// writes returns nil if the app writes to that node.
func (a *app) writes(node string) error {
	for _, n := range a.Nodes() {
		if n.Writable && n.Name == node {
			return nil
		}
	}
	return fmt.Errorf("nodes %+v, want %s to be written to", a.Nodes(), node)
}

// startLoad makes the tables and lets the clients begin.
func startLoad(t *testing.T, c *cluster) *load {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.leader(t).dsn("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, ctx: context.WithoutCancel(t.Context()), programs: [2]*app{c.open(t), c.open(t)}, last: time.Now()}
	t.Cleanup(func() {
		l.end()
		for i, p := range l.programs {
			p.mu.Lock()
			t.Logf("program %d: replicas served %v, %+v", i+1, p.served, p.Stat().Decisions)
			for _, e := range p.events {
				t.Logf("program %d: %s", i+1, e)
			}
			p.mu.Unlock()
		}
	})
	for i := range clients {
		l.group.Go(func() {
			for n := 0; !l.stop.Load() && !t.Failed(); n++ {
				l.request(fmt.Sprintf("%d-%d", i, n), l.programs[n%2], l.programs[(n+1)%2])
				l.requests.Add(1)
				<-time.After(pace)
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop.Store(true)
	l.group.Wait()
}

// request is what a user does: writes through one program, reads through the
// other. All of it is safe to replay but the first write, and none of that may
// fail.
func (l *load) request(id string, writer, reader *app) {
	ctx := pgtide.NewSession(l.ctx)
	_, err := writer.Exec(ctx, "insert into entry (id) values ($1)", id)
	if err != nil && !pgtide.OutcomeUnknown(err) {
		l.t.Errorf("write %s: %v; %v", id, err, pgtide.Explain(ctx))
		return
	}
	acked := err == nil
	l.note(write{id, acked, ctx, writer})
	for {
		_, err = writer.Exec(ctx, "insert into safe (id) values ($1) on conflict do nothing", id)
		if err == nil {
			break
		}
		if !pgtide.OutcomeUnknown(err) {
			l.t.Errorf("write %s, which is safe to replay: %v; %v", id, err, pgtide.Explain(ctx))
			return
		}
		l.replays.Add(1)
	}
	l.see(ctx, "its writer", id, writer, acked)
	if pgtide.Lost(ctx) != nil {
		return // it goes on with what there is, and so does its token
	}
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		l.t.Errorf("session of write %s has no token", id)
		return
	}
	l.see(pgtide.WithToken(pgtide.NewSession(l.ctx), token), "the other program", id, reader, acked)
}

// see reads what ctx's session wrote.
func (l *load) see(ctx context.Context, who, id string, p *app, acked bool) {
	const both = "select (select count(*) from entry where id = $1), (select count(*) from safe where id = $1)"
	var entries, safe int
	if err := p.QueryRow(ctx, both, id).Scan(&entries, &safe); err != nil {
		l.t.Errorf("read of %s by %s: %v; %v", id, who, err, pgtide.Explain(ctx))
		return
	}
	switch {
	case pgtide.Lost(ctx) != nil:
		l.told.Add(1)
	case entries > 1, acked && entries == 0, safe != 1:
		l.t.Errorf("stale read of %s by %s: %d and %d rows, want 1 and 1; the first write was acknowledged: %v; %v",
			id, who, entries, safe, acked, pgtide.Explain(ctx))
	}
}

func (l *load) note(w write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
	if w.acked {
		now := time.Now()
		l.longest = max(l.longest, now.Sub(l.last))
		l.last = now
	}
}

// more waits until so many more requests have been served from now on.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	from := l.requests.Load()
	until(t, fmt.Sprintf("%d requests", n), func() error {
		if got := l.requests.Load() - from; got < n {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}

// outage is the longest time without a write since it was last asked for.
func (l *load) outage() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.longest
	l.longest = 0
	return longest
}

// nodes waits until both programs have exactly these nodes.
func (l *load) nodes(t *testing.T, names ...string) {
	t.Helper()
	for i, p := range l.programs {
		until(t, fmt.Sprintf("nodes of program %d", i+1), func() error {
			if got := p.names(); !slices.Equal(got, names) {
				return fmt.Errorf("they are %q, want %q", got, names)
			}
			return nil
		})
	}
}

// account compares what the clients were told with what leader has. It returns
// how many acknowledged writes a failover lost, all of them told.
func (l *load) account(t *testing.T, leader *member) (lost int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), leader.dsn("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, _ := conn.Query(t.Context(), "select id, count(*) from entry group by id")
	there := map[string]int{}
	var id string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	unknown, done := 0, 0
	for _, w := range l.writes {
		n := there[w.id]
		delete(there, w.id)
		switch {
		case n > 1:
			t.Errorf("write %s was done %d times", w.id, n)
		case !w.acked:
			unknown++
			done += n
		case n == 0:
			lost++
			// Its session hears of it with its next call, if it has not yet.
			err := w.program.QueryRow(w.session, "select count(*) from entry where id = $1", w.id).Scan(&n)
			if err != nil || pgtide.Lost(w.session) == nil {
				t.Errorf("write %s is lost and its session was not told: %v; %v", w.id, err, pgtide.Explain(w.session))
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(there)) {
		t.Errorf("nobody wrote %s", id)
	}
	t.Logf("%d requests, %d writes, %d of unknown outcome of which %d were done, %d lost and told, %d safe ones replayed, %d requests told of a loss",
		l.requests.Load(), len(l.writes), unknown, done, lost, l.replays.Load(), l.told.Load())
	return lost
}
