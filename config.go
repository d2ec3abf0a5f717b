package pgtide

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// nodeConfig is one node before its pool is made.
type nodeConfig struct {
	name string
	pool *pgxpool.Config
}

// configs reads o's nodes.
func (o Options) configs() ([]nodeConfig, error) {
	var nodes []nodeConfig
	if o.DSN != "" {
		config, err := parseDSN(o.DSN)
		if err != nil {
			return nil, fmt.Errorf("options: DSN: %w", err)
		}
		strip(config)
		nodes = split(config)
	}
	for i, n := range o.Nodes {
		if n.Name == "" {
			return nil, fmt.Errorf("options: node %d has no name", i+1)
		}
		config, err := parseDSN(n.DSN)
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
		nodes = append(nodes, nodeConfig{n.Name, parts[0].pool})
	}
	if len(nodes) > MaxNodes {
		return nil, fmt.Errorf("options: %d nodes are given, the limit is %d", len(nodes), MaxNodes)
	}
	return nodes, check(nodes)
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
	names, places := map[string]bool{}, map[string]string{}
	for _, n := range nodes {
		c := n.pool.ConnConfig
		place := net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
		switch {
		case c.Database == "":
			return fmt.Errorf("node %q: its DSN names no database: add one, as in postgres://%s/DATABASE", n.name, place)
		case names[n.name]:
			return fmt.Errorf("options: two nodes are called %q: give each its own name", n.name)
		case places[place] != "":
			return fmt.Errorf("options: nodes %q and %q are the same server, %s: name it once", places[place], n.name, place)
		}
		names[n.name], places[place] = true, n.name
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
		nodes = append(nodes, nodeConfig{name, one})
	}
	return nodes
}
