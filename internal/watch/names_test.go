package watch

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/lab"
)

// network is names and addresses of servers that are all on this machine: the
// addresses are of TEST-NET-1, which leads nowhere.
type network struct {
	names   atomic.Pointer[[]string] // what the one name stands for
	servers map[string]*lab.Node     // by address

	mu      sync.Mutex // guards lookups
	lookups int
}

func (n *network) lookup(context.Context, string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	return *n.names.Load(), nil
}

func (n *network) looked() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lookups
}

func (n *network) dial(ctx context.Context, kind, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	server := n.servers[to.Addr().String()]
	conn, err := new(net.Dialer).DialContext(ctx, kind, net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())))
	if err != nil {
		return nil, err
	}
	return &farConn{conn, net.TCPAddrFromAddrPort(to)}, nil
}

// farConn is a connection to a far address.
type farConn struct {
	net.Conn
	to net.Addr
}

func (c *farConn) RemoteAddr() net.Addr { return c.to }

// named makes a node whose host is a name of the network.
func (n *network) named(t *testing.T, names ...string) Node {
	t.Helper()
	n.names.Store(&names)
	config, err := pgx.ParseConfig("postgres://app@reader.example:5432/app?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc, config.DialFunc = n.lookup, n.dial
	return Node{Member: topology.Member{Name: "reader"}, Config: config}
}

func TestNameThatMovesToAnotherServer(t *testing.T) {
	t.Parallel()
	const first, second = "192.0.2.1", "192.0.2.2"
	n := &network{servers: map[string]*lab.Node{first: cluster.Primary(), second: cluster.Replicas()[0]}}
	w := watchNodes(t, every(20*time.Millisecond), n.named(t, first))
	v := await(t, w, "the first server", func(v *topology.View) bool { return v.Nodes[0].State == topology.Up })
	if v.Nodes[0].Role != topology.Primary {
		t.Fatalf("the name leads to a %v, want the primary", v.Nodes[0].Role)
	}
	incarnation := v.Nodes[0].Incarnation
	await(t, w, "the first look at the name", func(*topology.View) bool { return n.looked() >= 2 }) // one was to connect
	n.names.Store(&[]string{second})                                                                // the first goes on answering
	began := time.Now()
	v = await(t, w, "the second server", func(v *topology.View) bool { return v.Nodes[0].Role == topology.Replica })
	d := time.Since(began)
	t.Logf("followed the name after %v", d.Round(time.Millisecond))
	if d > lookupInterval+2*time.Second {
		t.Errorf("followed the name after %v, want about %v", d, lookupInterval)
	}
	if v.Nodes[0].Incarnation == incarnation {
		t.Error("the second server is taken for the first")
	}
}

func TestNameOfSeveralServersIsLeftAlone(t *testing.T) {
	t.Parallel()
	const first, second = "192.0.2.1", "192.0.2.2"
	n := &network{servers: map[string]*lab.Node{first: cluster.Primary(), second: cluster.Replicas()[0]}}
	w := watchNodes(t, every(20*time.Millisecond), n.named(t, first))
	await(t, w, "the first server", func(v *topology.View) bool { return v.Nodes[0].State == topology.Up })
	// One more address, of a name that still stands for the one in use, moves
	// nobody; nor does a name server without an answer.
	before := n.looked()
	n.names.Store(&[]string{second, first})
	await(t, w, "a look at the name", func(*topology.View) bool { return n.looked() > before })
	n.names.Store(&[]string{})
	await(t, w, "a look at the name", func(*topology.View) bool { return n.looked() > before+1 })
	probes := w.Probes(0)
	v := await(t, w, "more probes", func(*topology.View) bool { return w.Probes(0) > probes+5 })
	if v.Nodes[0].State != topology.Up || v.Nodes[0].Role != topology.Primary {
		t.Errorf("the node is a %v and %v (%v), want it left where it was", v.Nodes[0].Role, v.Nodes[0].State, v.Nodes[0].Err)
	}
}
