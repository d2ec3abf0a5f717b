package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

var _ pgtide.Discoverer = DNS{}

// DNS makes a node of each address that a host name has. It is for names that
// give all addresses at once, as headless services of Kubernetes do; behind one
// that gives another address each time, nodes would come and go with each answer.
//
// The name of a node is its address, with the port unless that is 5432. In
// its DSN the address stands for the host, which is what certificates are checked
// against: with sslmode=verify-full set Options.Configure to [DNS.Configure].
type DNS struct {
	// DSN is that of every node. Its one host is the name that is looked up, its
	// port that of every node.
	DSN string
	// Network is which addresses count: "ip4", "ip6", or "ip" for both. Empty
	// means IPv4 if the name has any, else IPv6: most names that have both have
	// both for each server, which would be two nodes that are one primary.
	Network string
	// Resolver does the look-ups. Nil means net.DefaultResolver.
	Resolver *net.Resolver
	// Map, if set, may change the node made of an address, and leaves it out if
	// it returns false.
	Map func(address netip.Addr, n *pgtide.Node) bool

	_ struct{} // field names are required
}

// Discover looks the name up. A name that does not exist is a *net.DNSError.
func (d DNS) Discover(ctx context.Context) ([]pgtide.Node, error) {
	nodes, err := d.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("DNS: %w", err)
	}
	return nodes, nil
}

func (d DNS) discover(ctx context.Context) ([]pgtide.Node, error) {
	t, err := parseTemplate(d.DSN)
	if err != nil {
		return nil, err
	}
	host, err := t.one()
	if err != nil {
		return nil, err
	}
	addresses, err := d.lookUp(ctx, host.host)
	if err != nil {
		return nil, err
	}
	if len(addresses) > pgtide.MaxNodes {
		return nil, errTooMany(len(addresses), "addresses")
	}
	var nodes []pgtide.Node
	for _, a := range addresses {
		p := place{a.String(), host.port}
		n := pgtide.Node{Name: p.String(), DSN: t.at(p)}
		if d.Map == nil || d.Map(a, &n) {
			nodes = append(nodes, n)
		}
	}
	return answer(nodes)
}

// lookUp returns each address once, in order. It asks for one family after the
// other: an answer about both hides that one of them could not be had, and then
// all nodes would seem to have gone.
func (d DNS) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	networks := map[string][]string{"": {"ip4", "ip6"}, "ip": {"ip4", "ip6"}, "ip4": {"ip4"}, "ip6": {"ip6"}}[d.Network]
	if networks == nil {
		return nil, fmt.Errorf("network %q is none of ip4, ip6 and ip", d.Network)
	}
	var all []netip.Addr
	var none error
	for _, network := range networks {
		found, err := resolver(d.Resolver).LookupNetIP(ctx, network, host)
		var dns *net.DNSError
		var family *net.AddrError // the name is itself an address of the other family
		switch {
		case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &family):
			none = err
		case err != nil:
			return nil, err
		}
		for _, a := range found {
			all = append(all, a.Unmap())
		}
		if len(all) > 0 && d.Network == "" {
			break
		}
	}
	if len(all) == 0 && none != nil {
		return nil, none
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// Configure has a node's certificate checked against the name that was looked
// up, instead of the node's address. It is for [pgtide.Options].Configure.
func (d DNS) Configure(_ string, config *pgxpool.Config) error {
	t, err := parseTemplate(d.DSN)
	if err != nil {
		return fmt.Errorf("DNS: %w", err)
	}
	// Both were made of the same settings and so have the same ways to use TLS,
	// in the same order.
	named, c := t.config.ConnConfig, config.ConnConfig
	if len(named.Fallbacks) != len(c.Fallbacks) {
		return errors.New("DNS: the node has other TLS settings than the DSN: set its server name yourself")
	}
	c.TLSConfig = named.TLSConfig
	for i, f := range named.Fallbacks {
		c.Fallbacks[i].TLSConfig = f.TLSConfig
	}
	return nil
}

func resolver(r *net.Resolver) *net.Resolver {
	if r == nil {
		return net.DefaultResolver
	}
	return r
}
