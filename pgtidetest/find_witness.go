package pgtidetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

const (
	// mostStatements bounds what a witness remembers; later ones are not looked at.
	mostStatements = 100_000
	// askTimeout bounds what a witness asks a server while a statement waits.
	askTimeout = 2 * time.Second
	// freshTimeout bounds the wait for a replica that is to be fresh.
	freshTimeout = 10 * time.Second
)

// witness sees the statements of one run, in order, and asks the servers what they
// had when each began.
type witness struct {
	relays    map[string]*relay // by node
	decisions string            // of pgtide, when the run is over

	mu       sync.Mutex // guards the fields below, and what ended changes
	servers  *servers   // nil until the run begins, and after its end
	root     string     // the goroutine of the run
	fresh    bool       // reads wait until their replica has everything
	request  request
	all      []*statement
	writes   *statement       // the last one committed
	written  int64            // the primary's position behind it
	touched  int64            // the same behind anything that may have written
	drivers  map[string]*wire // by the driver's connection
	severing string           // the next statement that holds this text loses its answer
	asking   sync.Mutex       // guards the connections of servers; taken without mu
}

func newWitness(fresh bool) *witness {
	return &witness{relays: map[string]*relay{}, fresh: fresh, drivers: map[string]*wire{}}
}

// attach has o's DB go through relays, which end with the test.
func (w *witness) attach(t testing.TB, o Options) Options {
	further := o.Address
	o.Address = func(node, address string) string {
		if r := w.relays[node]; r != nil {
			return r.address()
		}
		if further != nil {
			address = further(node, address)
		}
		r, err := newRelay(node, address, w)
		if err != nil {
			t.Fatalf("pgtidetest: %v", err)
		}
		t.Cleanup(r.close)
		w.relays[node] = r
		return r.address()
	}
	return o
}

// start begins to take note of what this goroutine does and those that it starts.
func (w *witness) start(nodes []keeper.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers, w.root = newServers(nodes), thisGoroutine()
}

// stop ends that: nothing is added any more.
func (w *witness) stop() {
	w.mu.Lock()
	s := w.servers
	w.servers = nil
	w.mu.Unlock()
	if s == nil {
		return
	}
	w.asking.Lock()
	defer w.asking.Unlock()
	s.close()
}

func (w *witness) watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.servers != nil
}

// enter says what the statements from now on belong to.
func (w *witness) enter(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.request = request{w.request.n + 1, name}
}

// began notes a statement that is about to be sent on. It reports false if nobody
// is interested in it.
func (w *witness) began(s *statement) bool {
	w.mu.Lock()
	servers, after, written, touched := w.servers, w.writes, w.written, w.touched
	if servers == nil {
		w.mu.Unlock()
		return false
	}
	if len(w.all) == mostStatements {
		w.mu.Unlock()
		return false
	}
	s.order, s.request = len(w.all), w.request
	w.all = append(w.all, s)
	w.mu.Unlock()

	var at int64
	replica, known := false, false
	w.ask(servers, s.node, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, "select pg_is_in_recovery(), "+replayed).Scan(&replica, &at)
		known = err == nil
		if w.fresh && replica && at < touched && err == nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freshTimeout)
			defer cancel()
			if err = resume(ctx, conn); err == nil {
				err = until(ctx, func() (bool, error) {
					err := conn.QueryRow(ctx, "select "+replayed).Scan(&at)
					return at >= touched, err
				})
			}
		}
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	s.replica = replica
	s.after, s.behind = after, known && replica && after != nil && at < written
	s.unsure = known && replica && at < touched
	return true
}

// ended has change fill in what became of a statement.
func (w *witness) ended(s *statement, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	s.ended = true
}

// committed notes that statements of a connection to node have taken effect.
// Their author does not know yet.
func (w *witness) committed(node string, done []*statement) {
	wrote := slices.IndexFunc(done, (*statement).wrote)
	touched := wrote >= 0 || slices.ContainsFunc(done, (*statement).mayWrite)
	w.mu.Lock()
	servers := w.servers
	w.mu.Unlock()
	if !touched || servers == nil {
		return
	}
	var at, timeline int64
	w.ask(servers, node, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select * from ("+inserted+") as p where not pg_is_in_recovery()").Scan(&at, &timeline)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = max(w.touched, at)
	if wrote >= 0 && at >= w.written && at > 0 {
		w.writes, w.written = done[wrote], at
	}
}

// sever has the connection break that carries the next statement with this text:
// after the server has done it, and before its author is told.
func (w *witness) sever(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.severing = text
}

// severs reports, once, whether the connection of these statements is to break.
func (w *witness) severs(done []*statement) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.severing == "" || !slices.ContainsFunc(done, func(s *statement) bool { return strings.Contains(s.text, w.severing) }) {
		return false
	}
	w.severing = ""
	return true
}

// ask asks a node. What cannot be asked is not known, which is no finding: a server
// that is down has not answered the program either.
func (w *witness) ask(s *servers, node string, question func(context.Context, *pgx.Conn) error) {
	w.asking.Lock()
	defer w.asking.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := s.connect(ctx, node); err != nil {
		return
	}
	if err := question(ctx, s.conns[node]); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		s.conns[node].Close(ctx)
	}
}

// seen returns the statements, in the order of their beginnings.
func (w *witness) seen() []*statement {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*statement, len(w.all)) // copies: one that never ended may still do so
	moved := make(map[*statement]*statement, len(w.all))
	for i, s := range w.all {
		one := *s
		all[i], moved[s] = &one, &one
	}
	for _, s := range all {
		s.after = moved[s.after]
	}
	return all
}

// String lists the newest statements.
func (w *witness) String() string { return traceOf(w.seen()) }

func traceOf(all []*statement) string {
	all = slices.DeleteFunc(slices.Clone(all), func(s *statement) bool { // a router's own questions
		return len(s.callers) == 0 && s.tag == "SELECT 1" && !showsData(s.text)
	})
	var b strings.Builder
	first := max(0, len(all)-traceLength)
	fmt.Fprintf(&b, "the last %d of %d statements, in the order they were sent:", len(all)-first, len(all))
	for _, s := range all[first:] {
		b.WriteString("\n\t" + s.line())
	}
	return b.String()
}
