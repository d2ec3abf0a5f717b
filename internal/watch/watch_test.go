package watch

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/lab"
)

var cluster *lab.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if cluster, err = lab.Start(ctx, lab.Options{Replicas: 1}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer cluster.Close()
	return m.Run()
}

// every is to probe once per interval.
func every(interval time.Duration) Options {
	return Options{Rules: topology.Rules{Interval: interval}}
}

func node(t *testing.T, name, dsn string) Node {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return Node{Member: topology.Member{Name: name}, Config: config}
}

// watch starts a Watcher on the cluster until the end of the test.
func watch(t *testing.T, o Options) *Watcher {
	t.Helper()
	var nodes []Node
	for _, n := range cluster.Nodes() {
		nodes = append(nodes, node(t, n.Name(), n.DSN()))
	}
	return watchNodes(t, o, nodes...)
}

func watchNodes(t *testing.T, o Options, nodes ...Node) *Watcher {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Writes == nil {
		o.Writes = func() uint64 { return 0 }
	}
	w := New(o)
	t.Cleanup(w.Close)
	w.Join(nodes, func(i, place int, _ uint32) {
		if place != i {
			t.Errorf("node %d of a new watcher has place %d", i, place)
		}
	})
	return w
}

// await returns the first view for which ok holds.
func await(t *testing.T, w *Watcher, what string, ok func(*topology.View) bool) *topology.View {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := w.Changed()
		if v := w.View(); ok(v) {
			return v
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("still waiting for %s; the view is %+v", what, w.View())
		}
	}
}

func TestWhatAProbeSees(t *testing.T) {
	w := watch(t, every(50*time.Millisecond))
	v := await(t, w, "both nodes", func(v *topology.View) bool {
		return v.Primary == 0 && v.Nodes[1].State == topology.Up && v.Nodes[1].FreshKnown
	})
	p, r := v.Nodes[0], v.Nodes[1]
	if p.Role != topology.Primary || r.Role != topology.Replica {
		t.Errorf("roles %v and %v", p.Role, r.Role)
	}
	if p.SystemID == 0 || p.SystemID != r.SystemID || v.SystemID != p.SystemID {
		t.Errorf("system identifiers %d, %d and %d, want one", p.SystemID, r.SystemID, v.SystemID)
	}
	if p.Position.Timeline != 1 || r.Position.Timeline != 1 || p.Position.LSN == 0 || r.Position.LSN == 0 {
		t.Errorf("positions %v and %v, want both on timeline 1", p.Position, r.Position)
	}
	if p.Incarnation == 0 || p.Version < 140000 || p.Geometry != topology.DefaultGeometry {
		t.Errorf("primary %+v, want its start time, version and WAL geometry", p)
	}
}

func TestOnePlainRoleAndOneConnection(t *testing.T) {
	super, err := pgx.Connect(t.Context(), cluster.Primary().SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.Exec(t.Context(), "create role plain login"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := watchNodes(t, every(10*time.Millisecond),
		node(t, "primary", strings.Replace(cluster.Primary().DSN(), "//app", "//plain", 1)),
		node(t, "replica", strings.Replace(cluster.Replicas()[0].DSN(), "//app", "//plain", 1)))
	// Nothing that the watcher needs asks for rights.
	await(t, w, "a role without rights to see both nodes", func(v *topology.View) bool {
		return v.Primary == 0 && v.Nodes[1].State == topology.Up && v.Nodes[1].Position.Timeline == 1
	})
	await(t, w, "some more probes", func(*topology.View) bool { return w.Probes(0) > 10 })
	var n int
	if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where usename = 'plain'").Scan(&n); err != nil || n != 1 {
		t.Errorf("the watcher has %d connections to the primary (%v), want 1", n, err)
	}
}

func TestAttendHurries(t *testing.T) {
	w := watch(t, every(time.Hour))
	await(t, w, "the first probes", func(v *topology.View) bool { return v.Primary == 0 })
	attention := w.Attend(1)
	before := w.Probes(0)
	await(t, w, "twenty probes while attended", func(*topology.View) bool { return w.Probes(0) >= before+20 })
	attention.Leave()
	// The probe under way and the one that was due may still come, no more.
	before = w.Probes(0)
	w.Kick(2)
	await(t, w, "a kicked probe of the other node", func(v *topology.View) bool { return w.Probes(1) >= 2 })
	if n := w.Probes(0); n > before+2 {
		t.Errorf("%d probes after nobody attended any more", n-before)
	}
}

func TestWritesAreCountedBeforeTheProbe(t *testing.T) {
	var writes atomic.Uint64
	o := every(time.Hour)
	o.Writes = writes.Load
	w := watch(t, o)
	await(t, w, "the first probes", func(v *topology.View) bool { return v.Primary == 0 })
	writes.Store(7)
	w.Kick(1)
	v := await(t, w, "a sample that covers the writes", func(v *topology.View) bool { return v.Floor.Writes == 7 })
	if v.Floor.Position.IsZero() {
		t.Error("the floor has no position")
	}
}

func TestSilentNodeIsNoticedInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const interval, timeout = 50 * time.Millisecond, 200 * time.Millisecond
	began := time.Now()
	o := every(interval)
	o.Timeout = timeout
	w := watchNodes(t, o, node(t, "silent", "postgres://app:secret@"+l.Addr().String()+"/app?sslmode=disable"))
	v := await(t, w, "the silent node to be down", func(v *topology.View) bool { return v.Nodes[0].State == topology.Down })
	if d := time.Since(began); d > 5*(interval+timeout) {
		t.Errorf("noticed after %v, want about %v", d, interval+timeout)
	}
	if text := v.Nodes[0].Err.Error(); !strings.Contains(text, `"silent"`) || strings.Contains(text, "secret") {
		t.Errorf("error %q, want the node named and no password", text)
	}
	closed := make(chan struct{})
	go func() { w.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("Close hangs on a silent node")
	}
}

func TestCrashedBackendIsAnotherIncarnation(t *testing.T) {
	w := watch(t, every(20*time.Millisecond))
	v := await(t, w, "the replica", func(v *topology.View) bool { return v.Nodes[1].State == topology.Up })
	before, start := v.Nodes[1].Incarnation, time.Now()
	conn, err := pgx.Connect(t.Context(), cluster.Replicas()[0].DSN())
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := conn.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if v.Nodes[1].Version < 150000 {
		// There it does not show in the incarnation: whoever connects compares
		// positions. The link of the prober breaks all the same.
		link := w.Probes(1)
		v = await(t, w, "the replica to be probed again", func(v *topology.View) bool {
			return v.Nodes[1].State == topology.Up && w.Probes(1) > link+1
		})
		if v.Nodes[1].Incarnation != before {
			t.Errorf("version %d shows the crash after %v, which the code does not expect", v.Nodes[1].Version, time.Since(start))
		}
		return
	}
	await(t, w, "the replica to be up again", func(v *topology.View) bool {
		return v.Nodes[1].State == topology.Up && v.Nodes[1].Incarnation != before
	})
}

func TestViewsComeInOrder(t *testing.T) {
	var last atomic.Uint64
	o := every(5 * time.Millisecond)
	o.OnView = func(old, new *topology.View) {
		if new.Seq != old.Seq+1 || new.Seq != last.Load()+1 {
			t.Errorf("view %d came after %d", new.Seq, last.Load())
		}
		last.Store(new.Seq)
	}
	w := watch(t, o)
	await(t, w, "a hundred views", func(v *topology.View) bool { return v.Seq > 100 })
}
