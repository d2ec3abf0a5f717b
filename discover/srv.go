package discover

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/pgtide/pgtide"
)

// DefaultService is what [SRV] looks for.
const DefaultService = "postgresql"

var _ pgtide.Discoverer = SRV{}

// SRV makes a node of each SRV record of a name: _postgresql._tcp.NAME.
//
// The name of a node is the record's target, with the port unless that is 5432.
// Its Weight is the record's; 0 counts as 1. Its Zone is the record's priority
// in decimal: a program that wants to read from the servers of priority 10, and
// elsewhere only when they cannot serve, sets Options.Zone to "10". No record is
// left out for its priority, as any server may be the primary.
type SRV struct {
	// DSN is that of every node. Its one host is the name whose records are
	// looked up; its port is not used.
	DSN string
	// Service is the record's first label, without the underscore. Empty means
	// DefaultService.
	Service string
	// Resolver does the look-ups. Nil means net.DefaultResolver.
	Resolver *net.Resolver
	// Map, if set, may change the node made of a record, and leaves it out if it
	// returns false.
	Map func(record net.SRV, n *pgtide.Node) bool

	_ struct{} // field names are required
}

// Discover looks the records up. A name without any is a *net.DNSError.
func (s SRV) Discover(ctx context.Context) ([]pgtide.Node, error) {
	nodes, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("SRV: %w", err)
	}
	return nodes, nil
}

func (s SRV) discover(ctx context.Context) ([]pgtide.Node, error) {
	t, err := parseTemplate(s.DSN)
	if err != nil {
		return nil, err
	}
	domain, err := t.one()
	if err != nil {
		return nil, err
	}
	_, records, err := resolver(s.Resolver).LookupSRV(ctx, cmp.Or(s.Service, DefaultService), "tcp", domain.host)
	if err != nil {
		return nil, err
	}
	if len(records) > pgtide.MaxNodes {
		return nil, errTooMany(len(records), "records")
	}
	var nodes []pgtide.Node
	for _, r := range records {
		p := place{strings.TrimSuffix(r.Target, "."), r.Port}
		if p.host == "" {
			return nil, fmt.Errorf("the records of %s say that there is no such service", domain.host)
		}
		if err := checkHost(p.host); err != nil {
			return nil, err
		}
		if p.port == 0 {
			return nil, fmt.Errorf("the record of %s has no port", p.host)
		}
		n := pgtide.Node{
			Name:   p.String(),
			DSN:    t.at(p),
			Weight: float64(r.Weight),
			Zone:   strconv.Itoa(int(r.Priority)),
		}
		if s.Map == nil || s.Map(*r, &n) {
			nodes = append(nodes, n)
		}
	}
	return answer(nodes)
}
