package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

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

// listening is a Map that knows where each server of c listens: all are at one
// address, which tells nobody anything.
func listening(c *lab.Cluster) func(discover.Server, *pgtide.Node) bool {
	return func(s discover.Server, n *pgtide.Node) bool {
		server, err := c.Node(s.Name)
		if err != nil {
			return false
		}
		n.DSN = server.DSN()
		return true
	}
}

// untilNodes asks until the nodes are called so. Standbys connect when they
// like, and nothing tells when.
func untilNodes(t *testing.T, d pgtide.Discoverer, want ...string) []pgtide.Node {
	t.Helper()
	var names []string
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		var nodes []pgtide.Node
		nodes, err = d.Discover(t.Context())
		names = nil
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		if slices.Equal(names, want) {
			return nodes
		}
	}
	t.Fatalf("nodes %q, error %v; want %q", names, err, want)
	return nil
}

func TestStandbys(t *testing.T) {
	c := start(t, lab.Options{Replicas: 2, Settings: map[string]string{"wal_level": "logical"}})
	receivers(t, c.Primary())
	var servers []discover.Server
	d := &discover.Standbys{DSN: c.Primary().DSN(), Map: func(s discover.Server, n *pgtide.Node) bool {
		servers = append(servers, s)
		return listening(c)(s, n)
	}}
	var want []string
	for _, n := range c.Nodes() {
		want = append(want, fmt.Sprintf("%s=127.0.0.1:%d/app", n.Name(), n.Port()))
	}
	untilNodes(t, d, "node1", "node2", "node3")
	servers = nil
	wantNodes(t, d, want...)
	// Map sees each server once for what follows, and once for the answer.
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, s := range servers {
		port := uint16(c.Primary().Port())
		expect := discover.Server{Name: s.Name, Address: loopback, Port: port, Primary: s.Name == "node1"}
		if !expect.Primary {
			expect.State, expect.SyncState = "streaming", "async"
		}
		if s != expect {
			t.Errorf("server %+v, want %+v", s, expect)
		}
	}
	if len(servers) == 0 {
		t.Error("Map was not called")
	}
}

// receivers starts three that receive WAL and are no standbys: a program that
// stores it, a base backup and a logical subscriber.
func receivers(t *testing.T, primary *lab.Node) {
	t.Helper()
	super, err := pgconn.ParseConfig(primary.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), primary.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// A backup begins with a checkpoint, which is slow unless there was one.
	if _, err := conn.Exec(t.Context(), "checkpoint"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ kind, user, prepare, start string }{
		{"true", "replicator", "IDENTIFY_SYSTEM", "START_REPLICATION PHYSICAL %s"},
		{"true", "replicator", "IDENTIFY_SYSTEM", "BASE_BACKUP"},
		{"database", super.User, "CREATE_REPLICATION_SLOT logical TEMPORARY LOGICAL pgoutput", "START_REPLICATION SLOT logical LOGICAL 0/0 (proto_version '1', publication_names 'p')"},
	} {
		config := super.Copy()
		config.User = r.user
		config.RuntimeParams["replication"] = r.kind
		conn, err := pgconn.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		results, err := conn.Exec(t.Context(), r.prepare).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.start, "%s") {
			r.start = fmt.Sprintf(r.start, results[0].Rows[0][2])
		}
		conn.Frontend().Send(&pgproto3.Query{String: r.start})
		if err := conn.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		for streaming := false; !streaming; {
			message, err := conn.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", r.start, err)
			}
			switch message.(type) {
			case *pgproto3.CopyBothResponse, *pgproto3.CopyOutResponse:
				streaming = true
			}
		}
	}
	var states []string
	const others = "select array_agg(replace(state, 'catchup', 'streaming') order by state) from pg_stat_replication where application_name not like 'node%'"
	err = conn.QueryRow(t.Context(), others).Scan(&states)
	if want := []string{"backup", "streaming", "streaming"}; err != nil || !slices.Equal(states, want) {
		t.Fatalf("the primary reports receivers %q, %v; want %q", states, err, want)
	}
}

func TestStandbysByAddress(t *testing.T) {
	c := start(t, lab.Options{Replicas: 1})
	// Without a Map both are at the primary's address and port.
	wait := &discover.Standbys{DSN: c.DSN(), Map: listening(c)}
	untilNodes(t, wait, "node1", "node2")
	wantError(t, &discover.Standbys{DSN: c.DSN()}, `"node1" and "node2" would both be at 127.0.0.1:`, "Map")
	// A server that Map leaves out is nobody's rival.
	wantNodes(t, &discover.Standbys{DSN: c.DSN(), Map: func(s discover.Server, _ *pgtide.Node) bool { return s.Primary }},
		fmt.Sprintf("node1=127.0.0.1:%d/app", c.Primary().Port()))
	wantError(t, &discover.Standbys{DSN: c.DSN(), Map: func(s discover.Server, n *pgtide.Node) bool {
		ok := listening(c)(s, n)
		n.Name = "same"
		return ok
	}}, `two nodes are called "same"`)
}

func TestStandbysWithoutRights(t *testing.T) {
	c := start(t, lab.Options{Replicas: 1})
	untilNodes(t, &discover.Standbys{DSN: c.DSN(), Map: listening(c)}, "node1", "node2")
	conn, err := pgx.Connect(t.Context(), c.Primary().SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "create role plain login"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("plain", "secret")
	d := &discover.Standbys{DSN: u.String(), Map: listening(c)}
	wantError(t, d, `role "plain" sees that it has 1 senders of WAL`, "grant pg_monitor")
	if _, err := conn.Exec(t.Context(), "grant pg_monitor to plain"); err != nil {
		t.Fatal(err)
	}
	untilNodes(t, d, "node1", "node2")
}

func TestStandbysAfterFailover(t *testing.T) {
	c := start(t, lab.Options{Replicas: 2})
	names := []string{"node1", "node2", "node3"}
	// It is told of one server, which is not the primary for long.
	var primary string
	d := &discover.Standbys{DSN: c.Primary().DSN(), Map: func(s discover.Server, n *pgtide.Node) bool {
		if s.Primary {
			primary = s.Name
		}
		return listening(c)(s, n)
	}}
	forgetful := &discover.Standbys{DSN: c.DSN(), Map: listening(c), Keep: -1}
	untilNodes(t, d, names...)
	untilNodes(t, forgetful, names...)

	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := wantError(t, d, "no primary accepts writes", "it is a standby"); !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Errorf("error %v, want %v", err, pgtide.ErrNoPrimary)
	}
	if err := c.Promote(t.Context(), "node2"); err != nil {
		t.Fatal(err)
	}
	// The old primary is kept a while, and so is a standby that has yet to connect.
	wantError(t, &discover.Standbys{DSN: c.Nodes()[0].DSN(), Map: listening(c)}, "no primary")
	untilNodes(t, d, names...)
	untilNodes(t, forgetful, "node2", "node3")

	// An old primary that comes back on its own timeline is not believed, though
	// it is the only one that the DSN names.
	old := c.Nodes()[0]
	if err := old.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	untilNodes(t, d, names...)
	if primary != "node2" {
		t.Errorf("primary %q, want node2: its timeline is the newer one", primary)
	}
	untilNodes(t, forgetful, "node2", "node3")
	if err := old.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	untilNodes(t, forgetful, names...)
}

func TestStandbysOneConnectionAtATime(t *testing.T) {
	c := start(t, lab.Options{Replicas: 2})
	open, most := make(chan int, 1), 0
	open <- 0
	d := &discover.Standbys{DSN: c.DSN(), Map: listening(c), BeforeConnect: func(_ context.Context, config *pgx.ConnConfig) error {
		config.RuntimeParams["application_name"] = "finder"
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			n := <-open + 1
			most = max(most, n)
			open <- n
			return &counted{Conn: conn, open: open}, nil
		}
		return nil
	}}
	untilNodes(t, d, "node1", "node2", "node3")
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := d.Discover(t.Context())
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := <-open; n != 0 || most != 1 {
		t.Errorf("%d connections are open, and %d were at once; want none and one", n, most)
	}
}

// counted tells that it is closed.
type counted struct {
	net.Conn
	open   chan int
	closed bool
}

func (c *counted) Close() error {
	if !c.closed {
		c.closed = true
		c.open <- <-c.open - 1
	}
	return c.Conn.Close()
}

// TestStandbysThatHang: servers that accept and say nothing take their time, and
// not more of it than the caller has.
func TestStandbysThatHang(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := start(t, lab.Options{})
	good, err := pgconn.ParseConfig(c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("postgres://app:secret@%s,127.0.0.1:%d/app?sslmode=disable", listener.Addr(), good.Port)
	wantNodes(t, &discover.Standbys{DSN: dsn, Timeout: time.Second}, fmt.Sprintf("node1=127.0.0.1:%d/app", good.Port))

	d := &discover.Standbys{DSN: dsn, Timeout: time.Hour}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Discover(ctx); !errors.Is(err, pgtide.ErrNoPrimary) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want %v", err, pgtide.ErrNoPrimary)
	}
	// The next call begins with those that the first had no time to ask, and what
	// it has learned by its deadline is an answer.
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if nodes, err := d.Discover(ctx); err != nil || len(nodes) != 1 {
		t.Errorf("nodes %q, error %v; want the primary", shown(t, nodes), err)
	}
}

func TestStandbysBadDSN(t *testing.T) {
	wantError(t, &discover.Standbys{DSN: "postgres://app:secret@/app?host=/tmp"}, "names no host")
	wantError(t, &discover.Standbys{DSN: "app:secret"}, "the DSN is neither")
	wantError(t, &discover.Standbys{DSN: "postgres://app:secret@127.0.0.1:1/app"}, "no primary", "refused")
}
