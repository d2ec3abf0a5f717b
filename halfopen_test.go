package pgtide_test

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// valve is a TCP proxy in front of a server that can stop forwarding without
// closing anything: what it swallows on a connection once, it does for good.
type valve struct {
	listener net.Listener
	target   string
	shut     atomic.Bool
	at       atomic.Pointer[string] // swallows from a request on that has this in it
	age      atomic.Int64           // swallows on connections made before it grew
}

func newValve(t *testing.T, node *lab.Node) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{listener: l, target: net.JoinHostPort("127.0.0.1", strconv.Itoa(node.Port()))}
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { l.Close(); cancel(); conns.Wait() })
	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", v.target)
			if err != nil {
				client.Close()
				continue
			}
			stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			born, dead := v.age.Load(), &atomic.Bool{}
			pass := func(to, from net.Conn) {
				defer stop()
				defer to.Close()
				defer from.Close()
				for b := make([]byte, 16<<10); ; {
					n, err := from.Read(b)
					if err != nil {
						return
					}
					if at := v.at.Load(); v.shut.Load() || v.age.Load() != born || at != nil && bytes.Contains(b[:n], []byte(*at)) {
						dead.Store(true)
					}
					if dead.Load() {
						continue
					}
					if _, err := to.Write(b[:n]); err != nil {
						return
					}
				}
			}
			conns.Go(func() { pass(server, client) })
			conns.Go(func() { pass(client, server) })
		}
	})
	return v
}

// dsn is that of a node, through the valve.
func (v *valve) dsn(dsn string) string {
	return strings.Replace(dsn, v.target, v.listener.Addr().String(), 1)
}

// behind returns the nodes of a cluster with the replica behind a valve.
func behind(t *testing.T, c *lab.Cluster) (*valve, []pgtide.Node) {
	t.Helper()
	v, list := newValve(t, c.Replicas()[0]), nodes(c)
	list[1].DSN = v.dsn(list[1].DSN)
	return v, list
}

func TestServerThatCannotBeReachedAnyMore(t *testing.T) {
	t.Parallel()
	t.Run("connections just used", func(t *testing.T) {
		t.Parallel()
		cannotBeReached(t, false)
	})
	// The pool asks a connection that was idle for a second if it is well.
	t.Run("connections long idle", func(t *testing.T) {
		t.Parallel()
		cannotBeReached(t, true)
	})
}

func cannotBeReached(t *testing.T, idle bool) {
	c := start(t, lab.Options{Replicas: 1})
	valve, list := behind(t, c)
	const size = 4
	db := open(t, c, pgtide.Options{Nodes: list, Configure: func(_ string, c *pgxpool.Config) error {
		c.MaxConns = size
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return idle }
		return nil
	}})
	for _, a := range collect(t, begin(t, atOnce(db, size)), size) {
		if a.err != nil {
			t.Fatal(a.err)
		}
	}
	valve.shut.Store(true)
	began := time.Now()
	answers := begin(t, atOnce(db, 2*size))
	until(t, "the replica to be called down", func() bool { return db.Nodes()[1].State == "down" })
	if d := time.Since(began); d > noticed {
		t.Errorf("a replica that cannot be reached was in use for %v, want %v at most", d, noticed)
	}
	fresh := pgtide.NewSession(t.Context())
	if _, err := db.Exec(fresh, "select 1"); err != nil || last(t, fresh).Attempt != 1 || last(t, fresh).Role != pgtide.RolePrimary {
		t.Errorf("new call: %v, decisions %v; want it at the primary at once", err, pgtide.Explain(fresh))
	}
	for _, a := range collect(t, answers, 2*size) {
		if d := last(t, a.ctx); a.err != nil || d.Role != pgtide.RolePrimary {
			t.Errorf("read sent before that: %v; decisions %v; want it made again at the primary", a.err, pgtide.Explain(a.ctx))
		}
	}
	valve.shut.Store(false)
	used := func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	}
	until(t, "the replica to be used again", used)
}

// atOnce are reads that do not take long.
func atOnce(db *pgtide.DB, n int) map[string]func(context.Context) error {
	calls := map[string]func(context.Context) error{}
	for i := range n {
		calls[strconv.Itoa(i)] = func(ctx context.Context) error {
			var n int
			return db.QueryRow(ctx, "select 1 from pg_sleep(0.05)").Scan(&n)
		}
	}
	return calls
}

func TestConnectionsThatTheNetworkForgot(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	valve, list := behind(t, c)
	const size = 4
	db := open(t, c, pgtide.Options{Nodes: list, Configure: poolOf(size)})
	for _, a := range collect(t, begin(t, atOnce(db, size)), size) {
		if a.err != nil {
			t.Fatal(a.err)
		}
	}
	// New connections are well: a firewall was replaced.
	valve.age.Add(1)
	answers := begin(t, atOnce(db, 2*size))
	for _, a := range collect(t, answers, 2*size) {
		if a.err != nil {
			t.Errorf("read: %v; decisions %v", a.err, pgtide.Explain(a.ctx))
		}
	}
}

func TestConnectionThatIsNotAnsweredWhenItIsMade(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	valve, list := behind(t, c)
	list[1].ProbeDSN = c.Replicas()[0].DSN() // of the server behind a pooler that hangs
	what := "pg_postmaster_start_time"       // the first thing asked on a new connection
	valve.at.Store(&what)
	connect := "connect_timeout=1"
	if strings.Contains(list[1].DSN, "?") {
		connect = "&" + connect
	} else {
		connect = "?" + connect
	}
	list[1].DSN += connect
	db := open(t, c, pgtide.Options{Nodes: list})
	for _, a := range collect(t, begin(t, atOnce(db, 2)), 2) {
		if d := last(t, a.ctx); a.err != nil || d.Role != pgtide.RolePrimary {
			t.Errorf("read: %v; decisions %v; want it at the primary after a second", a.err, pgtide.Explain(a.ctx))
		}
	}
}
