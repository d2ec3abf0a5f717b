package pgtidehttp_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// Upstream's health check runs when a request chooses its slave, and remembers in
// a cache that a slave has failed. pgtide looks at every node all the time, and
// calls judge it too.
func TestCasesOfHealth(t *testing.T) {
	c := getPair(t)
	var mu sync.Mutex
	told := map[string]int{} // by what a hook was told: name and states
	db := openPair(t, c, pgtide.Options{Hooks: pgtide.Hooks{OnNode: func(before, after pgtide.NodeStatus) {
		mu.Lock()
		defer mu.Unlock()
		told[after.Name+" "+before.State+" "+after.State]++
	}}})
	tellings := func(what string) int {
		mu.Lock()
		defer mu.Unlock()
		return told[what]
	}
	probes := func(name string) int64 {
		for _, n := range db.Stat().Nodes {
			if n.Name == name {
				return n.Probes
			}
		}
		return 0
	}
	replicas := c.Replicas()
	up, down := replicas[0].Name(), replicas[1].Name()

	t.Run("T1 a node that answers is up", func(t *testing.T) {
		for _, n := range db.Nodes() {
			if n.State != "up" || n.Err != "" || (n.Role == pgtide.RolePrimary) != (n.Name == c.Primary().Name()) {
				t.Errorf("%s is %s, a %s: %s", n.Name, n.State, n.Role, n.Err)
			}
		}
	})
	// Upstream does not remember a success either, but looks only when a request
	// asks. Here the next look comes by itself, so what nobody asked for is known.
	t.Run("T4 a node that is up is looked at again", func(t *testing.T) {
		before := probes(up)
		comes(t, "three more looks", func() bool { return probes(up) >= before+3 })
	})
	if err := replicas[1].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mended(t, c, replicas[1])
	t.Run("T2 a node that does not answer is down", func(t *testing.T) {
		comes(t, "the node is down", func() bool { return nodeOf(t, db, down).State == "down" })
		if n := nodeOf(t, db, down); n.Err == "" {
			t.Error("its status does not say why")
		}
	})
	// Upstream tries number_of_tries times at once and then gives up for the
	// downtime. There is nothing to be learned from tries in one moment, and
	// nobody should be given up: a look is made each ProbeInterval.
	t.Run("T3 a node that is down is looked at again", func(t *testing.T) {
		before := probes(down)
		comes(t, "three more looks", func() bool { return probes(down) >= before+3 })
		if n := nodeOf(t, db, down); n.State != "down" {
			t.Errorf("it is %s, want down", n.State)
		}
	})
	// Upstream writes "dead" into a cache, once for each request that finds no
	// mark there. Here it is a state, with no time to live, and a change of it is
	// told once.
	t.Run("T5 that a node has failed is told once", func(t *testing.T) {
		if n := tellings(down + " up down"); n != 1 {
			t.Errorf("the hook was told %d times, want once", n)
		}
	})
	// Upstream asks the cache before the node. Here the state is at hand: no read
	// tries a node that is known to be down.
	t.Run("T6 a node that is down is not tried", func(t *testing.T) {
		for range 20 {
			ctx := pgtide.NewSession(t.Context())
			if _, err := countOf(ctx, db, "none"); err != nil {
				t.Fatal(err)
			}
			if d := pgtide.Explain(ctx); len(d) != 1 || d[0].Node != up || d[0].Attempt != 1 {
				t.Errorf("the read went %+v, want to %s at once", d, up)
			}
		}
	})
	// Upstream skips a slave for REPLICATED_DATABASE_DOWNTIME unless a check is
	// forced, and a success does not take the mark away.
	t.Run("T7 a node that is back is used at once", func(t *testing.T) {
		if err := replicas[1].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		comes(t, "the node is up", func() bool { return nodeOf(t, db, down).State == "up" })
		if _, err := countOf(pgtide.OnNode(t.Context(), down), db, "none"); err != nil {
			t.Errorf("a read there: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := tellings(down + " down up"); n != 1 {
			t.Errorf("the hook was told %d times, want once", n)
		}
	})
}

func TestCasesOfFailingReplicas(t *testing.T) {
	c := getPair(t)
	replicas := c.Replicas()
	// Upstream's ping of PostgreSQL opens a cursor and runs no SQL: while its
	// connection is open a stopped slave is alive, and the next query fails. Here
	// the read that meets the closed connection is made again elsewhere.
	t.Run("X14 a replica stops behind an open connection", func(t *testing.T) {
		db := openPair(t, c, pgtide.Options{})
		stopped := replicas[0]
		session := pgtide.NewSession(t.Context())
		comes(t, "the session reads from "+stopped.Name(), func() bool {
			session = pgtide.NewSession(t.Context())
			if _, err := countOf(session, db, "none"); err != nil {
				t.Fatal(err)
			}
			return last(t, session).Node == stopped.Name()
		})
		if err := stopped.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		mended(t, c, stopped)
		for range 10 {
			if _, err := countOf(session, db, "none"); err != nil {
				t.Fatalf("a read after the stop: %v", err)
			}
		}
		if d := last(t, session); d.Node == stopped.Name() {
			t.Errorf("the last read was served by %s, which has stopped", d.Node)
		}
	})
	// Upstream keeps reads away until the downtime ends, 60 s by default.
	t.Run("X16 a replica that has recovered serves reads", func(t *testing.T) {
		db := openPair(t, c, pgtide.Options{})
		name := replicas[1].Name()
		served := func() bool {
			ctx := pgtide.NewSession(t.Context())
			if _, err := countOf(ctx, db, "none"); err != nil {
				t.Fatal(err)
			}
			return last(t, ctx).Node == name
		}
		if err := replicas[1].Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		mended(t, c, replicas[1])
		comes(t, name+" is down", func() bool { return nodeOf(t, db, name).State == "down" })
		for range 20 {
			if served() {
				t.Fatalf("%s is down and serves a read", name)
			}
		}
		if err := replicas[1].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		comes(t, name+" serves reads", served)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
