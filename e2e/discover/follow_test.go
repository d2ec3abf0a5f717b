package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
	"github.com/pgtide/pgtide/lab"
)

func start(t *testing.T, o lab.Options) *lab.Cluster {
	t.Helper()
	c, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func open(t *testing.T, o pgtide.Options) *pgtide.DB {
	t.Helper()
	o.DiscoverInterval = 50 * time.Millisecond
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// until polls for what a DB finds by itself.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

func names(db *pgtide.DB) []string {
	var all []string
	for _, n := range db.Nodes() {
		all = append(all, n.Name)
	}
	slices.Sort(all)
	return all
}

// work reads and writes all the time, and none of it may fail.
func work(t *testing.T, db *pgtide.DB) (served func(node string) int64) {
	t.Helper()
	if _, err := db.Exec(t.Context(), "create table note (id bigint generated always as identity, text text)"); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var group sync.WaitGroup
	var counts sync.Map
	background := context.WithoutCancel(t.Context()) // that ends before the work does
	t.Cleanup(func() {
		stop.Store(true)
		group.Wait()
	})
	for range 4 {
		group.Go(func() {
			for ; !stop.Load(); <-time.After(time.Millisecond) {
				ctx := pgtide.NewSession(background)
				var id int64
				if err := db.QueryRow(ctx, "insert into note (text) values ('x') returning id").Scan(&id); err != nil && !pgtide.OutcomeUnknown(err) {
					t.Errorf("write: %v; %v", err, pgtide.Explain(ctx))
					return
				}
				var found bool
				if err := db.QueryRow(ctx, "select exists (select from note where id = $1)", id).Scan(&found); err != nil || id != 0 && !found && pgtide.Lost(ctx) == nil {
					t.Errorf("read of %d: found %v, error %v; %v", id, found, err, pgtide.Explain(ctx))
					return
				}
				all := pgtide.Explain(ctx)
				count, _ := counts.LoadOrStore(all[len(all)-1].Node, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
			}
		})
	}
	return func(node string) int64 {
		if count, ok := counts.Load(node); ok {
			return count.(*atomic.Int64).Load()
		}
		return 0
	}
}

// TestFollowSRV: records come and go while everybody works, and priorities say
// where to read.
func TestFollowSRV(t *testing.T) {
	c := start(t, lab.Options{Replicas: 2})
	s := newDNS(t)
	record := func(n *lab.Node, priority uint16) dnsmessage.ResourceBody {
		return srv(priority, 1, uint16(n.Port()), "localhost.")
	}
	of := func(n *lab.Node) string { return fmt.Sprintf("localhost:%d", n.Port()) }
	primary, near, far := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	publish := func(records ...dnsmessage.ResourceBody) {
		s.set("_postgresql._tcp."+name, dnsmessage.TypeSRV, records...)
	}
	publish(record(primary, 10), record(near, 10), record(far, 20))
	db := open(t, pgtide.Options{
		Discover: discover.SRV{DSN: "postgres://app@db.example/app?sslmode=disable", Resolver: s.resolver()},
		Zone:     "10",
	})
	served := work(t, db)
	more := func(n *lab.Node) {
		t.Helper()
		from := served(of(n))
		until(t, "reads from "+of(n), func() bool { return served(of(n)) > from+100 })
	}
	more(near)
	publish(record(primary, 10), record(far, 20))
	until(t, "a node to leave", func() bool { return len(db.Nodes()) == 2 })
	more(far)
	// An answer that cannot be had, or names nobody, leaves all as it is.
	s.refuse("_postgresql._tcp."+name, dnsmessage.TypeSRV, dnsmessage.RCodeServerFailure)
	failed := db.Stat().DiscoveryErrors
	until(t, "an error", func() bool { return db.Stat().DiscoveryErrors > failed+1 })
	more(far)
	s.refuse("_postgresql._tcp."+name, dnsmessage.TypeSRV, dnsmessage.RCodeSuccess)
	publish(record(primary, 10), record(near, 10), record(far, 20))
	until(t, "a node to join", func() bool { return len(db.Nodes()) == 3 })
	more(near)
}

// TestFollowStandbys: a program that knows one server finds the others, and its
// way when that one is gone.
func TestFollowStandbys(t *testing.T) {
	c := start(t, lab.Options{Replicas: 2})
	all := []string{"node1", "node2", "node3"}
	db := open(t, pgtide.Options{
		Discover: &discover.Standbys{
			DSN: c.Primary().DSN(),
			// All servers are at one address, so that only their names tell them apart.
			Map: func(s discover.Server, n *pgtide.Node) bool {
				server, err := c.Node(s.Name)
				if err != nil {
					return false
				}
				n.DSN = server.DSN()
				return true
			},
		},
	})
	served := work(t, db)
	until(t, "all nodes", func() bool { return slices.Equal(names(db), all) })
	until(t, "reads from replicas", func() bool { return served("node2")+served("node3") > 100 })

	old := c.Primary()
	if err := errors.Join(old.Kill(t.Context()), c.Promote(t.Context(), "node3")); err != nil {
		t.Fatal(err)
	}
	from := served("node2")
	until(t, "reads from the replica that is left", func() bool { return served("node2") > from+100 })
	if err := old.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	from = served("node1")
	until(t, "reads from the old primary", func() bool { return served("node1") > from+100 })
	if got := names(db); !slices.Equal(got, all) {
		t.Errorf("nodes %q, want %q", got, all)
	}
}

// TestFollowDNS: a name with one address, of servers that are told apart by it.
func TestFollowDNS(t *testing.T) {
	c := start(t, lab.Options{})
	s := newDNS(t)
	s.set(name, dnsmessage.TypeA, a("127.0.0.1"))
	u, err := url.Parse(c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	d := discover.DNS{DSN: fmt.Sprintf("postgres://app@db.example:%s/app?sslmode=disable", u.Port()), Resolver: s.resolver()}
	db := open(t, pgtide.Options{Discover: d, Configure: d.Configure})
	if got, want := names(db), "127.0.0.1:"+u.Port(); len(got) != 1 || got[0] != want {
		t.Errorf("nodes %q, want %q", got, want)
	}
	if _, err := db.Exec(t.Context(), "create table note (id bigint)"); err != nil {
		t.Error(err)
	}
}
