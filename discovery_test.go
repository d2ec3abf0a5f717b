package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// directory is a Discoverer that says what the test has it say.
type directory struct {
	mu    sync.Mutex // guards the fields below
	nodes []pgtide.Node
	err   error
	asked int
	told  []news
}

// news is what OnDiscover was told once.
type news struct {
	joined, left []string
	err          error
}

// Discover implements [pgtide.Discoverer].
func (d *directory) Discover(context.Context) ([]pgtide.Node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return slices.Clone(d.nodes), d.err
}

func (d *directory) set(err error, nodes ...pgtide.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes, d.err = nodes, err
}

func (d *directory) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func (d *directory) tell(joined, left []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, news{joined, left, err})
}

// heard returns what was told since the last call.
func (d *directory) heard() []news {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := d.told
	d.told = nil
	return told
}

// again waits until d was asked anew, and the answer has been dealt with.
func (d *directory) again(t *testing.T) {
	t.Helper()
	before := d.count()
	until(t, "the nodes to be asked for again", func() bool { return d.count() >= before+2 })
}

// discovering opens a DB that asks d often.
func discovering(t *testing.T, d *directory, o pgtide.Options) *pgtide.DB {
	t.Helper()
	o.Discover, o.Hooks.OnDiscover = d, d.tell
	if o.DiscoverInterval == 0 {
		o.DiscoverInterval = 10 * time.Millisecond
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// called is n under another name, by which its servers know the connections too.
func called(n *lab.Node, name string) pgtide.Node {
	return pgtide.Node{Name: name, DSN: n.DSN() + "&application_name=" + name}
}

// are waits until db's nodes are just these, and up.
func are(t *testing.T, db *pgtide.DB, names ...string) {
	t.Helper()
	until(t, fmt.Sprintf("the nodes to be %v", names), func() bool {
		var up []string
		for _, n := range db.Nodes() {
			if n.State != "up" {
				return false
			}
			up = append(up, n.Name)
		}
		slices.Sort(up)
		return slices.Equal(up, slices.Sorted(slices.Values(names)))
	})
}

// connections counts those to a server that go by a name.
func connections(t *testing.T, super *pgx.Conn, name string) (n int) {
	t.Helper()
	if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = $1", name).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func superuser(t *testing.T, n *lab.Node) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), n.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestAnswersThatLeaveTheNodesAsTheyAre(t *testing.T) {
	t.Parallel()
	good := nodes(shared)
	dir := &directory{}
	dir.set(nil, good...)
	db := discovering(t, dir, pgtide.Options{})
	if h := dir.heard(); len(h) != 1 || !slices.Equal(h[0].joined, []string{"node1", "node2", "node3"}) || len(h[0].left) != 0 || h[0].err != nil {
		t.Errorf("at Open OnDiscover was told %+v", h)
	}
	dir.again(t)
	if h := dir.heard(); len(h) != 0 {
		t.Errorf("while nothing changed OnDiscover was told %+v", h)
	}
	pools := map[string]int64{}
	for _, n := range db.Stat().Nodes {
		pools[n.Name] = n.Pool.NewConnsCount()
	}
	many := func(n int) (out []pgtide.Node) {
		for i := range n {
			out = append(out, pgtide.Node{Name: fmt.Sprint("n", i), DSN: fmt.Sprintf("postgres://app@127.0.0.1:%d/app", i+1)})
		}
		return out
	}
	outage := errors.New("the directory is down")
	for _, test := range []struct {
		name  string
		err   error
		nodes []pgtide.Node
		want  string
	}{
		{"error", outage, nil, "the directory is down"},
		{"error with nodes", outage, good[:1], "the directory is down"},
		{"nothing", nil, nil, "no nodes"},
		{"too many", nil, many(pgtide.MaxNodes + 1), "65 nodes are given, the limit is 64"},
		{"one name twice", nil, []pgtide.Node{good[0], {Name: "node1", DSN: good[1].DSN}}, `two nodes are called "node1"`},
		{"one server twice", nil, []pgtide.Node{good[0], {Name: "again", DSN: good[0].DSN}}, "are the same server"},
		{"no name", nil, []pgtide.Node{good[0], {DSN: good[1].DSN}}, "has no name"},
		{"no DSN", nil, []pgtide.Node{good[0], {Name: "x", DSN: "postgres://app:hunter2@:x/"}}, `"x"`},
		{"two hosts", nil, []pgtide.Node{{Name: "x", DSN: "postgres://app@a,b/app"}}, "names 2 hosts"},
		{"weight", nil, []pgtide.Node{{Name: "x", DSN: good[0].DSN, Weight: -1}}, "weight"},
	} {
		before := db.Stat()
		dir.set(test.err, test.nodes...)
		dir.again(t)
		after := db.Stat()
		if after.DiscoveryErrors <= before.DiscoveryErrors || after.Discoveries-before.Discoveries < after.DiscoveryErrors-before.DiscoveryErrors {
			t.Errorf("%s: Discoveries went from %d to %d, DiscoveryErrors from %d to %d", test.name, before.Discoveries, after.Discoveries, before.DiscoveryErrors, after.DiscoveryErrors)
		}
		h := dir.heard()
		if len(h) == 0 || h[0].err == nil || !strings.Contains(h[0].err.Error(), test.want) || len(h[0].joined)+len(h[0].left) > 0 {
			t.Errorf("%s: OnDiscover was told %+v, want an error that says %q", test.name, h, test.want)
		} else if strings.Contains(h[0].err.Error(), "hunter2") {
			t.Errorf("%s: the error %q holds the password", test.name, h[0].err)
		}
		if test.err != nil && !errors.Is(h[0].err, test.err) {
			t.Errorf("%s: the error %v does not wrap the Discoverer's", test.name, h[0].err)
		}
		are(t, db, "node1", "node2", "node3")
		if _, err := db.Exec(t.Context(), "select 1"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		dir.set(nil, good...)
		dir.again(t)
		dir.heard()
	}
	for _, n := range db.Stat().Nodes {
		if n.Pool.NewConnsCount() < pools[n.Name] {
			t.Errorf("the pool of %s was made anew", n.Name)
		}
	}
}

func TestNodeInOtherWordsLeavesAndJoins(t *testing.T) {
	t.Parallel()
	good := nodes(shared)
	dir := &directory{}
	dir.set(nil, good...)
	db := discovering(t, dir, pgtide.Options{})
	dir.heard()
	for what, change := range map[string]func(*pgtide.Node){
		"DSN":      func(n *pgtide.Node) { n.DSN += "&application_name=x" },
		"ProbeDSN": func(n *pgtide.Node) { n.ProbeDSN = n.DSN + "&application_name=x" },
		"Groups":   func(n *pgtide.Node) { n.Groups = []string{"analytics"} },
		"Zone":     func(n *pgtide.Node) { n.Zone = "eu-1" },
		"Weight":   func(n *pgtide.Node) { n.Weight = 2 },
	} {
		changed := slices.Clone(good)
		change(&changed[1])
		for _, nodes := range [][]pgtide.Node{changed, good} {
			dir.set(nil, nodes...)
			dir.again(t)
			h := dir.heard()
			if len(h) != 1 || h[0].err != nil || !slices.Equal(h[0].joined, []string{"node2"}) || !slices.Equal(h[0].left, []string{"node2"}) {
				t.Errorf("%s: OnDiscover was told %+v, want that node2 left and joined", what, h)
			}
			are(t, db, "node1", "node2", "node3")
			if got, want := db.HasGroup("analytics"), nodes[1].Groups != nil; got != want {
				t.Errorf("%s: HasGroup is %v, want %v", what, got, want)
			}
		}
	}
	dir.set(nil, good[2], good[0], good[1])
	dir.again(t)
	if h := dir.heard(); len(h) != 0 {
		t.Errorf("in another order: OnDiscover was told %+v, want nothing", h)
	}
}

func TestOpenWaitsForADiscoverer(t *testing.T) {
	t.Parallel()
	asked := 0
	db, err := pgtide.Open(t.Context(), pgtide.Options{Discover: pgtide.DiscovererFunc(func(context.Context) ([]pgtide.Node, error) {
		if asked++; asked < 2 {
			return nil, errors.New("not yet")
		}
		return nodes(shared), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	s := db.Stat()
	if s.Discoveries != 2 || s.DiscoveryErrors != 1 {
		t.Errorf("%d discoveries, %d failed; want 2 and 1", s.Discoveries, s.DiscoveryErrors)
	}
	are(t, db, "node1", "node2", "node3")
	db.Close()

	outage := errors.New("not today")
	began := time.Now()
	_, err = pgtide.Open(t.Context(), pgtide.Options{
		FailoverWait: 100 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond,
		Discover: pgtide.DiscovererFunc(func(context.Context) ([]pgtide.Node, error) { return nil, outage }),
	})
	if !errors.Is(err, outage) || !strings.Contains(err.Error(), "discover the nodes") {
		t.Errorf("Open with a Discoverer that does not get better: %v", err)
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %v, want no longer than FailoverWait", d)
	}
}

func TestOpenEndsWithItsContextWhileDiscovering(t *testing.T) {
	t.Parallel()
	hang := pgtide.DiscovererFunc(func(ctx context.Context) ([]pgtide.Node, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := pgtide.Open(ctx, pgtide.Options{Discover: hang}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open: %v, want the context's error", err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestCloseWhileDiscovering(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	first := true
	var told atomic.Int64
	db, err := pgtide.Open(t.Context(), pgtide.Options{
		DiscoverInterval: time.Millisecond,
		Discover: pgtide.DiscovererFunc(func(ctx context.Context) ([]pgtide.Node, error) {
			if first {
				first = false
				return nodes(shared), nil
			}
			asked <- struct{}{}
			<-ctx.Done() // nothing comes before it is not wanted any more
			return nil, ctx.Err()
		}),
		Hooks: pgtide.Hooks{OnDiscover: func(_, _ []string, err error) {
			told.Add(1)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	if _, err := db.Exec(t.Context(), "select 1"); err != nil {
		t.Errorf("call while a Discoverer hangs: %v", err)
	}
	began := time.Now()
	before := told.Load()
	db.Close()
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("Close took %v", d)
	}
	if n := told.Load(); n != before || db.Stat().DiscoveryErrors != 0 {
		t.Errorf("Close was told of as an error: %d times, DiscoveryErrors is %d", n-before, db.Stat().DiscoveryErrors)
	}
}

func TestDiscovererThatPanics(t *testing.T) {
	t.Parallel()
	var panics atomic.Bool
	told := make(chan error, 1)
	db, err := pgtide.Open(t.Context(), pgtide.Options{
		DiscoverInterval: time.Millisecond,
		Discover: pgtide.DiscovererFunc(func(context.Context) ([]pgtide.Node, error) {
			if panics.Swap(false) {
				panic("no such directory")
			}
			return nodes(shared), nil
		}),
		Hooks: pgtide.Hooks{OnDiscover: func(_, _ []string, err error) {
			if err != nil {
				told <- err
			}
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	panics.Store(true)
	if err := <-told; !strings.Contains(err.Error(), "no such directory") || !strings.Contains(err.Error(), "discovery_test.go") {
		t.Errorf("OnDiscover was told %v, want what the panic said, and where", err)
	}
	are(t, db, "node1", "node2", "node3")
	before := db.Stat().Discoveries
	until(t, "it to be asked again", func() bool { return db.Stat().Discoveries > before+2 })
}

func TestPrimaryPoolBeforeThereAreNodes(t *testing.T) {
	t.Parallel()
	dir := &directory{}
	dir.set(errors.New("not yet"))
	db := discovering(t, dir, pgtide.Options{Degraded: true})
	if len(db.Nodes()) != 0 {
		t.Fatalf("nodes %v", db.Nodes())
	}
	if _, err := db.PrimaryPool(); !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Errorf("PrimaryPool without nodes: %v, want ErrNoPrimary", err)
	}
	dir.set(nil, nodes(shared)...)
	are(t, db, "node1", "node2", "node3")
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatalf("PrimaryPool once there are nodes: %v", err)
	}
	if again, err := db.PrimaryPool(); again != pool || err != nil {
		t.Errorf("PrimaryPool again: %p and %v, want %p", again, err, pool)
	}
	if _, err := pool.Exec(t.Context(), "insert into message (text) values ('late')"); err != nil {
		t.Error(err)
	}
}

func TestDiscovererIsAskedSoonWhenANodeIsMissing(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	p, b, d := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	dir := &directory{}
	dir.set(nil, called(p, "p"), called(b, "b"))
	db := discovering(t, dir, pgtide.Options{DiscoverInterval: time.Hour})
	if n := dir.count(); n != 1 {
		t.Fatalf("asked %d times at Open", n)
	}
	dir.set(nil, called(p, "p"), called(d, "d"))
	began := time.Now()
	if err := b.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	are(t, db, "p", "d")
	// A second between two questions, and what a probe takes to miss it.
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a node was replaced after %v", took)
	}
	if n := dir.count(); n > 4 {
		t.Errorf("asked %d times", n)
	}

	// Without a primary it is asked each second, as it may be one nobody knows yet.
	before := dir.count()
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it to be asked three times more", func() bool { return dir.count() >= before+3 })
	if db.Writable() {
		t.Error("there is a primary")
	}
}

func TestDiscoverersNotCalledTwiceAtOnce(t *testing.T) {
	t.Parallel()
	var inside, asked atomic.Int64
	db, err := pgtide.Open(t.Context(), pgtide.Options{
		DiscoverInterval: time.Millisecond,
		Discover: pgtide.DiscovererFunc(func(ctx context.Context) ([]pgtide.Node, error) {
			if inside.Add(1) != 1 {
				t.Error("called twice at once")
			}
			defer inside.Add(-1)
			if _, ok := ctx.Deadline(); !ok {
				t.Error("its context has no deadline")
			}
			asked.Add(1)
			<-time.After(2 * time.Millisecond) // longer than the interval
			return nodes(shared), nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "some questions", func() bool { return asked.Load() > 20 })
	db.Close()
	n := asked.Load()
	if <-time.After(20 * time.Millisecond); asked.Load() != n { // nothing may happen
		t.Error("asked after Close")
	}
}
