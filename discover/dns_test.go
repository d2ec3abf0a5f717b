package discover_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
)

// An address is a name that has itself; a real DNS server is asked elsewhere,
// by tests that may depend on more than the library does.
func TestDNSOfAddress(t *testing.T) {
	for _, test := range []struct{ dsn, network, want string }{
		{"postgres://app:secret@127.0.0.1/shop", "", "127.0.0.1=127.0.0.1:5432/shop"},
		{"postgres://app:secret@127.0.0.1:5433/shop?sslmode=disable", "ip", "127.0.0.1:5433=127.0.0.1:5433/shop"},
		{"postgres://app:secret@[2001:db8::1]:5433/shop", "", "[2001:db8::1]:5433=2001:db8::1:5433/shop"},
		{"host=::1 user=app password=secret dbname=shop", "ip6", "::1=::1:5432/shop"},
	} {
		wantNodes(t, discover.DNS{DSN: test.dsn, Network: test.network}, test.want)
	}
}

func TestDNSBadOptions(t *testing.T) {
	offline := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("this test asks nobody")
	}}
	for _, test := range []struct{ dsn, network, want string }{
		{"", "ip4", "no host"},
		{"postgres://app:secret@/shop?host=/tmp", "", "no host"},
		{"postgres://app:secret@a,b/shop", "", "2 hosts"},
		{"postgres://app:secret@a:port/shop", "", "the DSN is neither"},
		{"postgres://app:secret@127.0.0.1/shop", "tcp", `network "tcp" is none of ip4, ip6 and ip`},
		{"postgres://app:secret@127.0.0.1/shop", "ip6", "no suitable address"},
		{"postgres://app:secret@a_b..c/shop", "", "no such host"},
	} {
		t.Setenv("PGHOST", "/tmp")
		wantError(t, discover.DNS{DSN: test.dsn, Network: test.network, Resolver: offline}, test.want)
	}
	err := wantError(t, discover.SRV{DSN: "postgres://app:secret@a_b..c/shop", Resolver: offline}, "no such host")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("error %v, want a *net.DNSError that says so", err)
	}
	wantError(t, discover.SRV{DSN: "postgres://app:secret@a,b/shop"}, "2 hosts")
	wantError(t, discover.SRV{DSN: "app:secret"}, "the DSN is neither")
}

func TestDNSMap(t *testing.T) {
	leaveOut := discover.DNS{DSN: "postgres://app:secret@127.0.0.1/shop", Map: func(netip.Addr, *pgtide.Node) bool { return false }}
	wantError(t, leaveOut, "names no node")
	far := discover.DNS{DSN: "postgres://app:secret@127.0.0.1/shop", Map: func(a netip.Addr, n *pgtide.Node) bool {
		n.Name, n.Zone = "a", "far from "+a.String()
		return true
	}}
	wantNodes(t, far, "a=127.0.0.1:5432/shop zone far from 127.0.0.1 weight 0")
}

// TestDNSConfigure: the address is dialled, and the name is what a certificate
// must be for.
func TestDNSConfigure(t *testing.T) {
	for _, test := range []struct {
		mode string
		want []string // server names of the ways to connect; "-" is no TLS
	}{
		{"disable", []string{"-"}},
		{"allow", []string{"-", "localhost"}},
		{"prefer", []string{"localhost", "-"}},
		{"require", []string{"localhost"}},
		{"verify-full", []string{"localhost"}},
		{"verify-full&sslsni=0", []string{"localhost"}},
		{"require&sslsni=0", []string{""}},
	} {
		d := discover.DNS{DSN: "postgres://app:secret@localhost/shop?sslmode=" + test.mode, Network: "ip4"}
		nodes := wantNodes(t, d, "127.0.0.1=127.0.0.1:5432/shop")
		config, err := pgxpool.ParseConfig(nodes[0].DSN)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Configure(nodes[0].Name, config); err != nil {
			t.Fatal(err)
		}
		c := config.ConnConfig
		hosts, got := []string{c.Host}, []string{"-"}
		if c.TLSConfig != nil {
			got[0] = c.TLSConfig.ServerName
		}
		for _, f := range c.Fallbacks {
			hosts = append(hosts, f.Host)
			name := "-"
			if f.TLSConfig != nil {
				name = f.TLSConfig.ServerName
			}
			got = append(got, name)
		}
		for i := range max(len(got), len(test.want)) {
			if i >= len(got) || i >= len(test.want) || got[i] != test.want[i] || hosts[i] != "127.0.0.1" {
				t.Errorf("sslmode=%s: server names %q at %q, want %q at the address", test.mode, got, hosts, test.want)
				break
			}
		}
	}
	d := discover.DNS{DSN: "postgres://app:secret@localhost/shop?sslmode=disable"}
	config, err := pgxpool.ParseConfig("postgres://app:secret@127.0.0.1/shop?sslmode=prefer")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Configure("a", config); err == nil {
		t.Error("a node with other TLS settings was configured")
	}
}
