package pgtide_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// patience is how long a probe may take where a replica that is called down would
// spoil the count: the machine may have much else to do.
const patience = 10 * time.Second

// slowLink forwards what a server says after a delay, on an address of its own.
type slowLink struct {
	listener net.Listener
	delay    atomic.Int64 // nanoseconds, of each answer
	done     sync.WaitGroup
	mu       sync.Mutex // guards open
	open     []net.Conn
}

func slow(t *testing.T, to string) *slowLink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowLink{listener: l}
	s.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			s.mu.Lock()
			s.open = append(s.open, in, out)
			s.mu.Unlock()
			s.done.Go(func() { _, _ = io.Copy(out, in); out.Close() })
			s.done.Go(func() { s.answer(in, out); in.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for _, conn := range s.open {
			conn.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *slowLink) answer(in io.Writer, out io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := out.Read(buffer)
		if err != nil {
			return
		}
		if d := time.Duration(s.delay.Load()); d > 0 {
			<-time.After(d) // that is what it is for
		}
		if _, err := in.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// behind returns a node whose calls go over s, but not its probes.
func (s *slowLink) behind(n *lab.Node) pgtide.Node {
	host := s.listener.Addr().String()
	return pgtide.Node{Name: n.Name(), DSN: "postgres://app@" + host + "/app?sslmode=disable", ProbeDSN: n.DSN()}
}

func address(n *lab.Node) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.Port())) }

// shares makes so many reads by so many callers, each in a session of its own,
// and returns where they went, and why.
func shares(t *testing.T, db *pgtide.DB, callers, reads int) (nodes map[string]int, reasons map[pgtide.Reason]int) {
	t.Helper()
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(reads))
	var mu sync.Mutex // guards the maps
	nodes, reasons = map[string]int{}, map[pgtide.Reason]int{}
	for range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				ctx := pgtide.NewSession(t.Context())
				if _, err := db.Exec(ctx, "select 1"); err != nil {
					t.Errorf("read: %v; decisions %v", err, pgtide.Explain(ctx))
					return
				}
				d := pgtide.Explain(ctx)
				mu.Lock()
				nodes[d[len(d)-1].Node]++
				reasons[d[len(d)-1].Reason]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return nodes, reasons
}

func TestNearReplicasFirst(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	near, far := c.Replicas()[0], c.Replicas()[1]
	all := nodes(c)
	all[1].Zone, all[2].Zone = "eu-1", "eu-2"
	db := open(t, c, pgtide.Options{Nodes: all, Zone: "eu-1", MaxStaleness: -1, WaitBudget: -1, EjectFactor: -1})
	goes := func(when, want string, ctx context.Context) {
		t.Helper()
		for range 20 {
			if _, err := db.Exec(ctx, "select 1"); err != nil {
				t.Fatal(err)
			}
			if d := last(t, ctx); d.Node != want {
				t.Errorf("%s: %v, want %s", when, d, want)
			}
			ctx = pgtide.NewSession(t.Context())
		}
	}
	ctx := pgtide.NewSession(t.Context())
	goes("both are there", near.Name(), ctx)

	// The near one lacks what the session wrote.
	if err := near.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := insert(t, ctx, db, "hi")
	token, _ := pgtide.TokenFrom(ctx)
	if err := db.WaitFor(t.Context(), token, far.Name()); err != nil {
		t.Fatal(err)
	}
	read(t, ctx, db, id)
	if d := last(t, ctx); d.Node != far.Name() {
		t.Errorf("the near one lags: %v, want %s", d, far.Name())
	}
	goes("another session", near.Name(), pgtide.NewSession(t.Context()))
	if err := near.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the session to be back near", func() bool {
		read(t, ctx, db, id)
		return last(t, ctx).Node == near.Name()
	})

	if err := near.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it to be called down", func() bool { return db.Nodes()[1].State == "down" })
	goes("the near one is down", far.Name(), pgtide.NewSession(t.Context()))
	if err := near.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it to be used again", func() bool {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		return last(t, ctx).Node == near.Name()
	})
	goes("it is back", near.Name(), pgtide.NewSession(t.Context()))

	// To a program in neither zone both are far, and to one without a zone near.
	for _, zone := range []string{"us-1", ""} {
		db := open(t, c, pgtide.Options{Nodes: all, Zone: zone, Balancing: pgtide.RoundRobin, MaxStaleness: -1, SlowStart: -1, EjectFactor: -1, ProbeTimeout: patience})
		if nodes, _ := shares(t, db, 4, 200); nodes[near.Name()] < 20 || nodes[far.Name()] < 20 {
			t.Errorf("in zone %q reads go to %v, want both", zone, nodes)
		}
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	all := nodes(shared)
	all[1].Weight, all[2].Weight = 4, 1
	db := open(t, shared, pgtide.Options{Nodes: all, Balancing: pgtide.RoundRobin, MaxStaleness: -1, SlowStart: -1, EjectFactor: -1, ProbeTimeout: patience})
	for _, callers := range []int{1, 8} {
		if nodes, _ := shares(t, db, callers, 1000); nodes["node2"] < 780 || nodes["node2"] > 820 {
			t.Errorf("in turn, weights 4 and 1, %d callers: reads went to %v, want 800 and 200", callers, nodes)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Balancing: pgtide.RoundRobin, MaxStaleness: -1, SlowStart: -1, EjectFactor: -1, ProbeTimeout: patience})
	nodes, reasons := shares(t, db, 4, 400)
	if nodes["node2"] < 180 || nodes["node3"] < 180 || reasons[pgtide.ReasonFresh] < 390 {
		t.Errorf("reads went to %v because %v, want half to each replica", nodes, reasons)
	}
	ctx := pgtide.NewSession(t.Context())
	for i := range 10 {
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); i > 0 && d.Reason != pgtide.ReasonSticky {
			t.Errorf("read %d of a session: %v, want it to stay where it was", i, d)
		}
	}
}

func TestLessIsGivenToASlowReplica(t *testing.T) {
	t.Parallel()
	link := slow(t, address(shared.Replicas()[0]))
	all := nodes(shared)
	all[1] = link.behind(shared.Replicas()[0])
	db := open(t, shared, pgtide.Options{Nodes: all, MaxStaleness: -1, SlowStart: -1, EjectFactor: -1, ProbeInterval: 20 * time.Millisecond, ProbeTimeout: patience})
	until(t, "it to get a part while both are about as quick", func() bool {
		nodes, _ := shares(t, db, 4, 400)
		return nodes["node2"] > 60
	})
	link.delay.Store(int64(60 * time.Millisecond))
	shares(t, db, 8, 200) // until it is known
	until(t, "its latency to be known", func() bool {
		shares(t, db, 8, 20)
		return db.Nodes()[1].Latency > 30*time.Millisecond
	})
	nodes, _ := shares(t, db, 8, 600)
	if nodes["node2"] > 150 || nodes["node1"] > 0 {
		t.Errorf("reads went to %v, want few at the slow replica and none at the primary", nodes)
	}
}

func TestEjectedReplica(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 3})
	links := map[string]*slowLink{}
	all := nodes(c)
	for i, n := range c.Replicas() {
		links[n.Name()] = slow(t, address(n))
		all[i+1] = links[n.Name()].behind(n)
	}
	db := open(t, c, pgtide.Options{Nodes: all, MaxStaleness: -1, SlowStart: -1, ProbeInterval: 20 * time.Millisecond, ProbeTimeout: patience})
	ejected := func() (names []string) {
		for _, n := range db.Nodes() {
			if n.Ejected {
				names = append(names, n.Name)
			}
		}
		return names
	}
	shares(t, db, 4, 300)
	quick := func(d time.Duration, names ...string) {
		for name, l := range links {
			l.delay.Store(int64(2 * time.Millisecond)) // above what nobody is ejected for
			if slices.Contains(names, name) {
				l.delay.Store(int64(d))
			}
		}
	}
	quick(500*time.Millisecond, "node2")
	until(t, "node2 to be ejected", func() bool {
		shares(t, db, 8, 40)
		return slices.Equal(ejected(), []string{"node2"})
	})
	nodes, reasons := shares(t, db, 8, 1000)
	if nodes["node2"] != reasons[pgtide.ReasonTrial] || nodes["node2"] > 50 || nodes["node1"] > 0 {
		t.Errorf("reads went to %v because %v, want at the ejected replica nothing but trials; %+v", nodes, reasons, db.Nodes())
	}

	// A second slow one stays: no more than half may go.
	quick(500*time.Millisecond, "node2", "node3")
	for range 5 {
		shares(t, db, 8, 40)
		if names := ejected(); len(names) > 1 {
			t.Fatalf("%v are ejected of three, want one at most", names)
		}
	}

	quick(0)
	until(t, "nobody to be ejected any more", func() bool {
		shares(t, db, 8, 100)
		return len(ejected()) == 0
	})
	until(t, "all of them to be read from", func() bool {
		nodes, _ := shares(t, db, 8, 200)
		return nodes["node2"] > 10 && nodes["node3"] > 10 && nodes["node4"] > 10
	})
}

func TestNobodyIsEjectedWithANegativeFactor(t *testing.T) {
	t.Parallel()
	link := slow(t, address(shared.Replicas()[0]))
	link.delay.Store(int64(50 * time.Millisecond))
	all := nodes(shared)
	all[1] = link.behind(shared.Replicas()[0])
	db := open(t, shared, pgtide.Options{Nodes: all, Balancing: pgtide.RoundRobin, MaxStaleness: -1, SlowStart: -1, EjectFactor: -1, ProbeInterval: 20 * time.Millisecond, ProbeTimeout: patience})
	nodes, _ := shares(t, db, 8, 200)
	until(t, "its latency to be known", func() bool { return db.Nodes()[1].Latency > 30*time.Millisecond })
	if db.Nodes()[1].Ejected || nodes["node2"] < 60 {
		t.Errorf("%+v; reads went to %v, want as many at the slow one", db.Nodes()[1], nodes)
	}
}

func TestSpillWait(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	pause(t, c)
	for _, test := range []struct {
		name string
		wait time.Duration
		want time.Duration // at least
	}{
		{"fails at once", -1, 0},
		{"waits", 300 * time.Millisecond, 300 * time.Millisecond},
	} {
		db := open(t, c, pgtide.Options{SpillLimit: 1, SpillWait: test.wait, WaitBudget: -1})
		ctx := pgtide.NewSession(t.Context())
		id := insert(t, ctx, db, "what the replica lacks")
		rows, err := db.Query(ctx, "select 1") // takes the one place
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = db.Exec(ctx, "select 2")
		took := time.Since(began)
		if !errors.Is(err, pgtide.ErrNoFreshReplica) || errors.Is(err, pgtide.ErrNoPrimary) {
			t.Errorf("%s: %v, want ErrNoFreshReplica", test.name, err)
		}
		if took < test.want || took > test.want+3*time.Second {
			t.Errorf("%s: failed after %v, want about %v", test.name, took, test.want)
		}
		// Writes, and reads that the program sends there, have nothing to do with it.
		insert(t, ctx, db, "more")
		if _, err := db.Exec(pgtide.OnPrimary(ctx), "select 3"); err != nil {
			t.Errorf("%s: read that the program sends to the primary: %v", test.name, err)
		}
		ended, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		if _, err := db.Exec(ended, "select 4"); !errors.Is(err, pgtide.ErrNoFreshReplica) || test.wait > 0 && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: a read whose context ends: %v", test.name, err)
		}
		cancel()
		rows.Close()
		read(t, ctx, db, id) // the place is free
	}

	// A read that waits for a place is served by the replica that catches up.
	db := open(t, c, pgtide.Options{SpillLimit: 1, WaitBudget: -1})
	ctx := pgtide.NewSession(t.Context())
	id := insert(t, ctx, db, "what the replica lacks")
	rows, err := db.Query(ctx, "select 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	waiting := make(chan error, 1)
	go func() {
		var text string
		waiting <- db.QueryRow(ctx, "select text from message where id = $1", id).Scan(&text)
	}()
	if err := c.Replicas()[0].ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the read that waited: %v", err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica || d.Waited == 0 {
		t.Errorf("the read that waited: %v, want it at the replica", d)
	}
}

func TestMaxLag(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	const limit = 1 << 20
	db := open(t, c, pgtide.Options{MaxLag: limit, MaxStaleness: -1, ProbeInterval: 20 * time.Millisecond})
	plain := open(t, c, pgtide.Options{MaxStaleness: -1, ProbeInterval: 20 * time.Millisecond})
	goes := func(db *pgtide.DB, ctx context.Context) pgtide.Decision {
		t.Helper()
		ctx = pgtide.WithConsistency(pgtide.NewSession(ctx), pgtide.Eventual)
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		return last(t, ctx)
	}
	until(t, "a read at the replica", func() bool { return goes(db, t.Context()).Role == pgtide.RoleReplica })
	pause(t, c)
	if _, err := plain.Exec(t.Context(), "insert into message (text) values ('a few bytes')"); err != nil {
		t.Fatal(err)
	}
	few := pgtide.WithMaxLag(t.Context(), 1)
	until(t, "a few bytes to be seen", func() bool {
		d := goes(plain, few)
		return d.Role == pgtide.RolePrimary && d.Reason == pgtide.ReasonTooStale
	})
	if d := goes(db, t.Context()); d.Role != pgtide.RoleReplica {
		t.Errorf("a few bytes behind, and a megabyte is allowed: %v, want the replica", d)
	}
	if d := goes(db, pgtide.WithMaxLag(few, 0)); d.Role != pgtide.RoleReplica {
		t.Errorf("a limit of zero adds nothing: %v, want the replica", d)
	}
	if _, err := plain.Exec(t.Context(), "insert into message (text) select repeat('x', 1000) from generate_series(1, 3000)"); err != nil {
		t.Fatal(err)
	}
	until(t, "megabytes to be seen", func() bool {
		d := goes(db, t.Context())
		return d.Role == pgtide.RolePrimary && d.Reason == pgtide.ReasonTooStale
	})
	if d := goes(plain, t.Context()); d.Role != pgtide.RoleReplica {
		t.Errorf("without a limit: %v, want the replica", d)
	}
	if d := goes(plain, pgtide.WithMaxLag(t.Context(), 1<<30)); d.Role != pgtide.RoleReplica {
		t.Errorf("with a limit of a gigabyte: %v, want the replica", d)
	}
	if d := goes(db, pgtide.WithMaxLag(t.Context(), 1<<30)); d.Role != pgtide.RolePrimary {
		t.Errorf("the context's limit is wider than the options': %v, want the primary", d)
	}
	// Without a primary there is nothing to be behind of.
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to serve without a primary", func() bool {
		ctx := pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Eventual)
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	})
}
