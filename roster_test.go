package pgtide

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/internal/watch"
)

// unreachable returns nodes where nobody listens.
func unreachable(names ...string) []Node {
	var nodes []Node
	for i, name := range names {
		nodes = append(nodes, Node{Name: name, DSN: fmt.Sprintf("postgres://app@127.0.0.1:%d/app?sslmode=disable", i+1), Groups: []string{"of " + name}})
	}
	return nodes
}

// deserted opens a DB of which no node answers.
func deserted(t *testing.T, names ...string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{Nodes: unreachable(names...), Degraded: true, FailoverWait: -1, ProbeInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func TestRosterIsNeverChangedInPlace(t *testing.T) {
	n := func(name string, groups ...string) *node {
		return &node{config: nodeConfig{name: name, groups: groups}}
	}
	empty := &roster{}
	one := empty.with(0, n("a", "x"))
	three := one.with(2, n("c", "x", "y"))
	left := three.with(0, nil)
	for _, test := range []struct {
		what   string
		r      *roster
		names  []string
		groups map[string]uint64
	}{
		{"empty", empty, nil, nil},
		{"one", one, []string{"a"}, map[string]uint64{"x": 1}},
		{"three places", three, []string{"a", "c"}, map[string]uint64{"x": 5, "y": 4}},
		{"one left", left, []string{"c"}, map[string]uint64{"x": 4, "y": 4}},
	} {
		if got := test.r.names(); !slices.Equal(got, test.names) {
			t.Errorf("%s: names %v, want %v", test.what, got, test.names)
		}
		if len(test.r.groups) != len(test.groups) {
			t.Errorf("%s: groups %v, want %v", test.what, test.r.groups, test.groups)
		}
		for name, set := range test.groups {
			if test.r.groups[name] != set {
				t.Errorf("%s: group %s is %b, want %b", test.what, name, test.r.groups[name], set)
			}
		}
	}
	if left.named("a") != nil || left.named("c") == nil || left.named("") != nil {
		t.Error("named finds who has left, or not who is there")
	}
}

func TestEnrol(t *testing.T) {
	db := deserted(t, "a", "b", "c")
	enrol := func(nodes ...Node) (joined, left []string) {
		t.Helper()
		configs, err := configsOf(nodes)
		if err != nil {
			t.Fatal(err)
		}
		joined, left, err = db.enrol(configs)
		if err != nil {
			t.Fatal(err)
		}
		return joined, left
	}
	all := unreachable("a", "b", "c", "d", "e")
	check := func(what string, joined, left []string, wantJoined, wantLeft string, places string) {
		t.Helper()
		if j, l := strings.Join(joined, ""), strings.Join(left, ""); j != wantJoined || l != wantLeft {
			t.Errorf("%s: joined %q, left %q; want %q and %q", what, j, l, wantJoined, wantLeft)
		}
		got := ""
		for _, n := range db.roster.Load().places {
			if n == nil {
				got += "."
				continue
			}
			got += n.name()
		}
		if got != places {
			t.Errorf("%s: places %q, want %q", what, got, places)
		}
	}
	joined, left := enrol(all[:3]...)
	check("nothing new", joined, left, "", "", "abc")
	joined, left = enrol(all[0], all[2])
	check("b leaves", joined, left, "", "b", "a.c")
	joined, left = enrol(all[0], all[2], all[3])
	check("d joins", joined, left, "d", "", "adc")
	joined, left = enrol(all[4], all[1])
	check("all change", joined, left, "eb", "adc", "eb.")
	changed := all[4]
	changed.Weight = 3
	before := db.roster.Load().named("e")
	joined, left = enrol(changed, all[1])
	check("e in other words", joined, left, "e", "e", "eb.")
	if now := db.roster.Load().named("e"); now == before || now.id == before.id || now.pool == before.pool || !before.left.Load() {
		t.Error("the node in other words is not another one")
	}

	// What cannot be made leaves what there is.
	db.options.Configure = nil
	broken, err := configsOf(all[:2])
	if err != nil {
		t.Fatal(err)
	}
	broken[0].pool.MaxConns = 0
	joined, left, err = db.enrol(broken)
	if err == nil || !strings.Contains(err.Error(), `node "a"`) {
		t.Errorf("a pool that cannot be made: %v", err)
	}
	check("a cannot be made", joined, left, "", "e", ".b.")

	many := make([]nodeConfig, MaxNodes+1)
	if _, _, err := db.enrol(many); err == nil || !strings.Contains(err.Error(), "the limit is 64") {
		t.Errorf("65 nodes: %v", err)
	}
	db.Close()
	if _, _, err := db.enrol(broken); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// A call may know of a node before there is a view with it.
func TestCallToANodeThatIsJoining(t *testing.T) {
	db := deserted(t, "a")
	config, err := configsOf(unreachable("a", "b")[1:])
	if err != nil {
		t.Fatal(err)
	}
	n, err := db.newNode(config[0])
	if err != nil {
		t.Fatal(err)
	}
	placed := make(chan any, 1)
	db.watch.Join([]watch.Node{n.watched("")}, func(_, place int, id uint32) {
		n.place, n.id = place, id
		db.roster.Store(db.roster.Load().with(place, n))
		close(n.joined)
		go func() {
			defer func() {
				if r := recover(); r != nil {
					placed <- r
				}
			}()
			c := db.newCall(OnNode(context.Background(), "b"), route.ReasonNone)
			placed <- c.place(context.Background())
		}()
		select {
		case got := <-placed:
			placed <- got
		case <-time.After(20 * time.Millisecond): // it waits, as it should: nothing tells of that
		}
	})
	got := <-placed
	if err, ok := got.(error); !ok || !errors.Is(err, ErrNodeDown) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("a call to a node that was just joining: %v, want that it is down", got)
	}
}

// A call that has been given a node's pool may find it closed.
func TestCallToANodeThatIsLeaving(t *testing.T) {
	db := deserted(t, "a", "b")
	n := db.roster.Load().named("b")
	c := db.newCall(OnNode(context.Background(), "b"), route.ReasonNone)
	c.begin = true
	c.ctx, c.view, c.node = context.Background(), db.watch.View(), n
	db.dismiss(n)
	n.inFlight.Add(1)
	_, err := c.connect()
	if err == nil {
		t.Fatal("a pool that was closed gives connections")
	}
	if again, err := c.judge(err, attempt{}); !again {
		t.Fatalf("a call that the pool of a node that left did not take ends with %v", err)
	}
	if err := c.place(t.Context()); !errors.Is(err, ErrUnknownNode) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("the call ends with %v, want ErrUnknownNode", err)
	}
	// It may be back in other words.
	configs, err := configsOf(unreachable("a", "c", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.enrol(configs); err != nil {
		t.Fatal(err)
	}
	if err := c.place(t.Context()); !errors.Is(err, ErrNodeDown) {
		t.Errorf("the call to the same node anew ends with %v, want ErrNodeDown", err)
	}
}

// What nobody knows the position of, as its node has left, may not be told of as
// if it were on another.
func TestTokenOfWhatANodeThatLeftHasShown(t *testing.T) {
	db := deserted(t, "a", "b")
	ctx := NewSession(t.Context())
	st := scopeOf(ctx).session.state(db)
	v := db.watch.View()
	v.Nodes[1].Role, v.Nodes[1].Incarnation = topology.Replica, 7
	st.read(1, v, route.Session)
	db.dismiss(db.roster.Load().named("b"))
	for _, what := range []string{"free", "another's"} {
		token, ok := TokenFrom(ctx)
		if !ok {
			t.Fatalf("its place is %s: the session carries nothing", what)
		}
		text, err := token.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Token
		if err := back.UnmarshalText(text); err != nil || !back.Equal(token) {
			t.Errorf("its place is %s: the token %v comes back as %v (%v)", what, token, back, err)
		}
		if token.run != 0 {
			t.Errorf("its place is %s: the token names a run of node %x", what, token.last)
		}
		configs, err := configsOf(unreachable("a", "c"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := db.enrol(configs); err != nil {
			t.Fatal(err)
		}
	}
}

// While WaitFor waits for a node, that may leave, and another be in its place.
func TestWaitForANodeThatLeaves(t *testing.T) {
	db := deserted(t, "a", "b")
	at := Token{systemID: db.SystemID(), need: topology.Position{Timeline: 1, LSN: 100}}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	before := db.watch.Probes(0)
	go func() { done <- db.WaitFor(ctx, at, "a", "b") }()
	for db.watch.Probes(0) < before+3 && ctx.Err() == nil { // only who waits has it probed so often
		<-time.After(time.Millisecond)
	}
	configs, err := configsOf(unreachable("a", "c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.enrol(configs); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrUnknownNode) {
		t.Errorf("WaitFor on a node that leaves: %v, want ErrUnknownNode", err)
	}
}
