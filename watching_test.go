package pgtide_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestNodeThatComesBackIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	replica := c.Replicas()[0]
	if err := replica.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be called down", func() bool { return db.Nodes()[1].State == "down" })
	if err := replica.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "the replica to be used", func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	})
	d := time.Since(began)
	t.Logf("used %v after it took clients", d.Round(time.Millisecond))
	if d > pgtide.DefaultProbeInterval+time.Second {
		t.Errorf("the replica was used %v after it took clients, want about %v", d, pgtide.DefaultProbeInterval)
	}
}

func TestNodeThatComesAndGoesIsHeld(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	flapping := c.Replicas()[0]
	held := make(chan bool, 100) // each time it came back
	db := open(t, c, pgtide.Options{SlowStart: -1, EjectFactor: -1, Hooks: pgtide.Hooks{OnNode: func(before, after pgtide.NodeStatus) {
		if after.Name == flapping.Name() && before.State == "down" && after.State == "up" {
			held <- after.Held
		}
	}}})
	now := func() pgtide.NodeStatus { return db.Nodes()[1] }
	spares := func() bool { // there is another to read from
		n := db.Nodes()
		return n[1].Held && n[2].State == "up" && !n[2].Held
	}
	spared := 0
	for i := range 5 {
		if err := flapping.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "the node to be called down", func() bool { return now().State == "down" })
		if err := flapping.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := <-held, i > 0; got != want {
			t.Errorf("when the node had come back %d times it was held: %t, want %t", i+1, got, want)
		}
		for spares() {
			ctx := pgtide.NewSession(t.Context())
			if _, err := db.Exec(ctx, "select 1"); err != nil {
				t.Fatal(err)
			}
			if spares() && last(t, ctx).Node == flapping.Name() {
				t.Error("a read went to a node that is held while another serves")
			}
			spared++
		}
	}
	if spared == 0 {
		t.Error("no read was made while the node was held: this shows nothing")
	}
	until(t, "the node to be used again", func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Node == flapping.Name()
	})
	if err := c.Replicas()[1].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestProbesTakeOneConnection(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	var supers []*pgx.Conn
	for _, n := range c.Nodes() {
		supers = append(supers, supervisor(t, n))
	}
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	insert(t, ctx, db, "what the replica lacks")
	token, _ := pgtide.TokenFrom(ctx)
	// While somebody waits, the nodes are probed as often as may be.
	wait, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { db.WaitFor(wait, token) })
	}
	defer group.Wait()
	defer cancel()
	for i, super := range supers {
		before := db.Stat().Nodes[i].Probes
		until(t, "a hundred probes", func() bool {
			var n int
			if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = 'pgtide watch'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n != 1 {
				t.Errorf("node %d: the watcher has %d connections, want 1", i+1, n)
			}
			return db.Stat().Nodes[i].Probes > before+100
		})
	}
}
