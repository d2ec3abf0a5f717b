package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
)

const (
	dsn  = "postgres://app:secret@db.example:5433/shop?sslmode=disable"
	name = "db.example."
)

// found asks d and returns what a test compares: name=host:port, zone, weight.
func found(t *testing.T, d pgtide.Discoverer) ([]string, error) {
	t.Helper()
	nodes, err := d.Discover(t.Context())
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q tells the password", err)
	}
	var all []string
	for _, n := range nodes {
		c, err := pgxpool.ParseConfig(n.DSN)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s=%s:%d %s %v", n.Name, c.ConnConfig.Host, c.ConnConfig.Port, n.Zone, n.Weight))
	}
	return all, err
}

func want(t *testing.T, d pgtide.Discoverer, nodes ...string) {
	t.Helper()
	got, err := found(t, d)
	if err != nil || !slices.Equal(got, nodes) {
		t.Errorf("nodes %q, error %v; want %q", got, err, nodes)
	}
}

func wantError(t *testing.T, d pgtide.Discoverer, text string) error {
	t.Helper()
	got, err := found(t, d)
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("nodes %q, error %v; want one that says %q", got, err, text)
	}
	return err
}

func TestDNS(t *testing.T) {
	s := newDNS(t)
	of := func(network string) pgtide.Discoverer {
		return discover.DNS{DSN: dsn, Network: network, Resolver: s.resolver()}
	}
	v4 := []string{"10.0.0.1:5433=10.0.0.1:5433  0", "10.0.0.2:5433=10.0.0.2:5433  0"}
	v6 := []string{"[2001:db8::1]:5433=2001:db8::1:5433  0"}

	err := wantError(t, of(""), "no such host")
	var missing *net.DNSError
	if !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("error %v, want a *net.DNSError that says so", err)
	}
	s.set(name, dnsmessage.TypeAAAA, aaaa("2001:db8::1"))
	want(t, of(""), v6...)
	want(t, of("ip"), v6...)
	wantError(t, of("ip4"), "no such host")
	// The order of an answer means nothing, and neither does a repetition.
	s.set(name, dnsmessage.TypeA, a("10.0.0.2"), a("10.0.0.1"), a("10.0.0.2"))
	want(t, of(""), v4...)
	want(t, of("ip4"), v4...)
	want(t, of("ip6"), v6...)
	want(t, of("ip"), slices.Concat(v4, v6)...)
	// A family that cannot be asked for now has not gone.
	s.refuse(name, dnsmessage.TypeA, dnsmessage.RCodeServerFailure)
	wantError(t, of(""), "server misbehaving")
	wantError(t, of("ip"), "server misbehaving")
	want(t, of("ip6"), v6...)
}

func TestDNSOfManyAddresses(t *testing.T) {
	s := newDNS(t)
	var records []dnsmessage.ResourceBody
	for i := range 1000 {
		records = append(records, a(fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)))
	}
	d := discover.DNS{DSN: dsn, Resolver: s.resolver()}
	s.set(name, dnsmessage.TypeA, records[:pgtide.MaxNodes]...)
	if got, err := found(t, d); err != nil || len(got) != pgtide.MaxNodes {
		t.Errorf("%d nodes, error %v; want %d", len(got), err, pgtide.MaxNodes)
	}
	s.set(name, dnsmessage.TypeA, records...)
	wantError(t, d, "1000 addresses, the limit is 64 nodes")
}

func TestDNSThatIsSilent(t *testing.T) {
	s := newDNS(t)
	s.hush()
	for _, d := range []pgtide.Discoverer{
		discover.DNS{DSN: dsn, Resolver: s.resolver()},
		discover.SRV{DSN: dsn, Resolver: s.resolver()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		nodes, err := d.Discover(ctx)
		cancel()
		if took := time.Since(began); err == nil || took > 2*time.Second {
			t.Errorf("%T: %d nodes and error %v after %v, want an error after 100ms", d, len(nodes), err, took)
		}
	}
}

func TestSRV(t *testing.T) {
	s := newDNS(t)
	const records = "_postgresql._tcp." + name
	d := discover.SRV{DSN: dsn, Resolver: s.resolver()}
	wantError(t, d, "no such host")
	s.set(records, dnsmessage.TypeSRV,
		srv(20, 0, 5432, "c.example."), srv(10, 3, 5432, "a.example."), srv(10, 1, 6432, "b.example."))
	want(t, d, "a.example=a.example:5432 10 3", "b.example:6432=b.example:6432 10 1", "c.example=c.example:5432 20 0")
	s.set(records, dnsmessage.TypeSRV, srv(1, 1, 5432, "a.example."), srv(1, 1, 5433, "a.example."))
	want(t, d, "a.example=a.example:5432 1 1", "a.example:5433=a.example:5433 1 1")

	s.set("_pg._tcp."+name, dnsmessage.TypeSRV, srv(1, 1, 5432, "pg.example."))
	want(t, discover.SRV{DSN: dsn, Service: "pg", Resolver: s.resolver()}, "pg.example=pg.example:5432 1 1")
	want(t, discover.SRV{DSN: dsn, Resolver: s.resolver(), Map: func(r net.SRV, n *pgtide.Node) bool {
		n.Name, n.Zone, n.Weight = fmt.Sprintf("%s %d", r.Target, r.Port), "", 0
		return r.Port == 5433
	}}, "a.example. 5433=a.example:5433  0")

	for _, bad := range []struct {
		record dnsmessage.ResourceBody
		want   string
	}{
		{srv(0, 0, 0, "."), "no such service"},
		{srv(1, 1, 0, "a.example."), "the record of a.example has no port"},
	} {
		s.set(records, dnsmessage.TypeSRV, bad.record)
		wantError(t, d, bad.want)
	}
	var many []dnsmessage.ResourceBody
	for i := range 100 {
		many = append(many, srv(1, 1, 5432, fmt.Sprintf("n%d.example.", i)))
	}
	s.set(records, dnsmessage.TypeSRV, many...)
	wantError(t, d, "100 records, the limit is 64 nodes")
}
