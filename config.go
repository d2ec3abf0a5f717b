package pgtide

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// nodeConfig is one node before its pool is made.
type nodeConfig struct {
	name   string
	pool   *pgxpool.Config
	probe  *pgx.ConnConfig // nil for that of the pool
	groups []string
	zone   string
	weight float64
	dsns   [2]string // what it was made of
	// subscription is that of a subscriber, else empty.
	subscription string
}

// same reports whether d describes the same node in the same words.
func (c *nodeConfig) same(d nodeConfig) bool {
	return c.name == d.name && c.dsns == d.dsns && slices.Equal(c.groups, d.groups) && c.zone == d.zone && c.weight == d.weight &&
		c.subscription == d.subscription
}

// configs reads o's nodes.
func (o Options) configs() ([]nodeConfig, error) {
	if o.DSN == "" {
		return configsOf(o.Nodes)
	}
	config, err := parseDSN(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("options: DSN: %w", err)
	}
	strip(config)
	nodes := split(config)
	return nodes, check(nodes)
}

// configsOf reads nodes.
func configsOf(nodes []Node) ([]nodeConfig, error) {
	var configs []nodeConfig
	for i, n := range nodes {
		if n.Name == "" {
			return nil, fmt.Errorf("options: node %d has no name", i+1)
		}
		if slices.Contains(n.Groups, "") {
			return nil, fmt.Errorf("node %q: a group has an empty name", n.Name)
		}
		if !(n.Weight >= 0) || math.IsInf(n.Weight, 1) {
			return nil, fmt.Errorf("node %q: its weight %v is not a positive number", n.Name, n.Weight)
		}
		pool, err := n.parse(n.DSN)
		if err != nil {
			return nil, err
		}
		c := nodeConfig{
			name: n.Name, pool: pool, groups: slices.Clone(n.Groups), zone: n.Zone, weight: n.Weight,
			dsns: [2]string{n.DSN, n.ProbeDSN}, subscription: n.Subscription,
		}
		if n.ProbeDSN != "" {
			probe, err := n.parse(n.ProbeDSN)
			switch {
			case err != nil:
				return nil, fmt.Errorf("ProbeDSN: %w", err)
			case probe.ConnConfig.Database == "":
				return nil, fmt.Errorf("ProbeDSN: node %q: it names no database: add the one of DSN", n.Name)
			}
			c.probe = probe.ConnConfig
		}
		configs = append(configs, c)
	}
	return configs, check(configs)
}

// parse reads a DSN that is for n alone.
func (n *Node) parse(dsn string) (*pgxpool.Config, error) {
	config, err := parseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", n.Name, err)
	}
	if name := strip(config); name != "" {
		return nil, fmt.Errorf("node %q: its DSN sets %s, which is not for one node: set it in Options", n.Name, name)
	}
	parts := split(config)
	if len(parts) != 1 {
		return nil, fmt.Errorf("node %q: its DSN names %d hosts: name each as a node, or use Options.DSN", n.Name, len(parts))
	}
	return parts[0].pool, nil
}

// parseDSN is pgxpool.ParseConfig with errors that hold nothing of the DSN. pgx
// quotes it less what it takes for the password, and in one that does not parse
// that is a guess; what it says of a URL may quote a part of it again.
func parseDSN(dsn string) (*pgxpool.Config, error) {
	if rest, ok := strings.CutPrefix(dsn, scheme); ok {
		dsn = "postgres://" + rest
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err == nil {
		return config, nil
	}
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	if text == err.Error() || strings.Contains(text, "failed to parse") {
		text = "write special characters in a URL as %XX, and put values with spaces in single quotes"
	}
	return nil, fmt.Errorf("it is neither postgres://user:password@host:port/database?option=value "+
		"nor host=... port=... user=... password='...' dbname=...: %s", text)
}

func check(nodes []nodeConfig) error {
	if len(nodes) > MaxNodes {
		return fmt.Errorf("options: %d nodes are given, the limit is %d", len(nodes), MaxNodes)
	}
	names, places := map[string]bool{}, map[string]string{}
	for _, n := range nodes {
		c := n.pool.ConnConfig
		place := net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
		database := place + "/" + c.Database // a pooler may have one for each server
		switch {
		case c.Database == "":
			return fmt.Errorf("node %q: its DSN names no database: add one, as in postgres://%s/DATABASE", n.name, place)
		case names[n.name]:
			return fmt.Errorf("options: two nodes are called %q: give each its own name", n.name)
		case places[database] != "":
			return fmt.Errorf("options: nodes %q and %q are the same server, %s: name it once", places[database], n.name, place)
		}
		names[n.name], places[database] = true, n.name
	}
	return nil
}

// split makes a configuration for each host of a multi-host one. pgx lists
// the first host in the config itself and the others as fallbacks, a host once
// more for each way to use TLS with it.
func split(config *pgxpool.Config) []nodeConfig {
	type place struct {
		host string
		port uint16
	}
	c := config.ConnConfig
	ways := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var order []place
	grouped, hosts := map[place][]*pgconn.FallbackConfig{}, map[string]int{}
	for _, w := range ways {
		p := place{w.Host, w.Port}
		if len(grouped[p]) == 0 {
			order = append(order, p)
			hosts[p.host]++
		}
		grouped[p] = append(grouped[p], w)
	}
	var nodes []nodeConfig
	for _, p := range order {
		one := config.Copy()
		first := grouped[p][0]
		one.ConnConfig.Host, one.ConnConfig.Port, one.ConnConfig.TLSConfig = first.Host, first.Port, first.TLSConfig
		one.ConnConfig.Fallbacks = grouped[p][1:]
		one.ConnConfig.ValidateConnect = nil // target_session_attrs: pgtide asks each node its role
		name := p.host
		if hosts[p.host] > 1 {
			name = net.JoinHostPort(p.host, strconv.Itoa(int(p.port)))
		}
		nodes = append(nodes, nodeConfig{name: name, pool: one})
	}
	return nodes
}
