package pgtide

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// noEnvironment keeps libpq's variables out of what is read.
func noEnvironment(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("PGPASSFILE", os.DevNull)
	t.Setenv("PGSERVICEFILE", os.DevNull)
}

// places are the name and address of each node, and whether it begins with TLS
// and how many further ways there are to reach it.
func places(nodes []nodeConfig) []string {
	var out []string
	for _, n := range nodes {
		c := n.pool.ConnConfig
		out = append(out, fmt.Sprintf("%s=%s:%d tls=%v +%d", n.name, c.Host, c.Port, c.TLSConfig != nil, len(c.Fallbacks)))
	}
	return out
}

func TestSplitDSN(t *testing.T) {
	noEnvironment(t)
	for _, c := range []struct {
		dsn  string
		want []string
	}{
		{"postgres://app@a/shop?sslmode=disable", []string{"a=a:5432 tls=false +0"}},
		{"postgres://app@a,b,c/shop?sslmode=disable", []string{"a=a:5432 tls=false +0", "b=b:5432 tls=false +0", "c=c:5432 tls=false +0"}},
		{"postgres://app@a,b:5433/shop?sslmode=disable", []string{"a=a:5432 tls=false +0", "b=b:5433 tls=false +0"}},
		{"postgres://app@a:1,a:2,b:3/shop?sslmode=disable", []string{"a:1=a:1 tls=false +0", "a:2=a:2 tls=false +0", "b=b:3 tls=false +0"}},
		{"postgres://app@[::1]:1,[::2]:1/shop?sslmode=disable", []string{"::1=::1:1 tls=false +0", "::2=::2:1 tls=false +0"}},
		{"postgres://app@[::1]:1,[::1]:2/shop?sslmode=disable", []string{"[::1]:1=::1:1 tls=false +0", "[::1]:2=::1:2 tls=false +0"}},
		{"postgres:///shop?host=a,b&port=1,2&user=app&sslmode=disable", []string{"a=a:1 tls=false +0", "b=b:2 tls=false +0"}},
		{"host=a,b port=5433 user=app dbname=shop sslmode=disable", []string{"a=a:5433 tls=false +0", "b=b:5433 tls=false +0"}},
		{"host=a,b port=1,2 user=app dbname=shop sslmode=disable", []string{"a=a:1 tls=false +0", "b=b:2 tls=false +0"}},
		{"host=/run/a,/run/b user=app dbname=shop", []string{"/run/a=/run/a:5432 tls=false +0", "/run/b=/run/b:5432 tls=false +0"}},
		{"postgres://app@a,b/shop?sslmode=require", []string{"a=a:5432 tls=true +0", "b=b:5432 tls=true +0"}},
		// Each host keeps its own second way.
		{"postgres://app@a,b/shop?sslmode=prefer", []string{"a=a:5432 tls=true +1", "b=b:5432 tls=true +1"}},
		{"postgres://app@a,b/shop?sslmode=allow", []string{"a=a:5432 tls=false +1", "b=b:5432 tls=false +1"}},
	} {
		nodes, err := Options{DSN: c.dsn}.configs()
		if got := places(nodes); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q, %v\nwant %q", c.dsn, got, err, c.want)
		}
		for _, n := range nodes {
			for _, f := range n.pool.ConnConfig.Fallbacks {
				if f.Host != n.pool.ConnConfig.Host || f.Port != n.pool.ConnConfig.Port {
					t.Errorf("%s: node %s falls back to %s:%d, which is another", c.dsn, n.name, f.Host, f.Port)
				}
			}
			if n.pool.ConnConfig.User != "app" || n.pool.ConnConfig.Database != "shop" {
				t.Errorf("%s: node %s is for user %q and database %q", c.dsn, n.name, n.pool.ConnConfig.User, n.pool.ConnConfig.Database)
			}
		}
	}
}

func TestSplitKeepsWhatIsCommon(t *testing.T) {
	noEnvironment(t)
	nodes, err := Options{DSN: "postgres://app:secret@a,b/shop?sslmode=verify-full&pool_max_conns=7&application_name=x&target_session_attrs=read-write&connect_timeout=3"}.configs()
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		c := n.pool.ConnConfig
		if n.pool.MaxConns != 7 || c.Password != "secret" || c.RuntimeParams["application_name"] != "x" || c.ConnectTimeout != 3*time.Second {
			t.Errorf("node %s has %d connections, password %q, parameters %v, timeout %v", n.name, n.pool.MaxConns, c.Password, c.RuntimeParams, c.ConnectTimeout)
		}
		if c.ValidateConnect != nil {
			t.Errorf("node %s refuses servers by target_session_attrs", n.name)
		}
		if want := []string{"a", "b"}[i]; c.TLSConfig == nil || c.TLSConfig.ServerName != want {
			t.Errorf("node %s is verified as another than %s", n.name, want)
		}
	}
	nodes[0].pool.ConnConfig.RuntimeParams["application_name"] = "y"
	if got := nodes[1].pool.ConnConfig.RuntimeParams["application_name"]; got != "x" {
		t.Errorf("the nodes share their parameters: %q", got)
	}
}

func TestNamedNodes(t *testing.T) {
	noEnvironment(t)
	nodes, err := Options{Nodes: []Node{
		{Name: "east", DSN: "postgres://app@a/shop?sslmode=prefer&target_session_attrs=read-only"},
		{Name: "west", DSN: "host=a port=5433 user=app dbname=shop sslmode=disable"},
	}}.configs()
	want := []string{"east=a:5432 tls=true +1", "west=a:5433 tls=false +0"}
	if got := places(nodes); err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %q, %v\nwant %q", got, err, want)
	}
	if nodes[0].pool.ConnConfig.ValidateConnect != nil {
		t.Error("node east refuses servers by target_session_attrs")
	}
}

// Each error names the node or option and what to do, and holds no password.
func TestConfigErrors(t *testing.T) {
	noEnvironment(t)
	const password = "hunter2"
	many := func(n int) (nodes []Node) {
		for i := range n {
			nodes = append(nodes, Node{Name: fmt.Sprint("n", i), DSN: fmt.Sprintf("postgres://app:hunter2@h%d/shop", i)})
		}
		return nodes
	}
	for _, c := range []struct {
		what    string
		options Options
		want    []string
	}{
		{"no name", Options{Nodes: []Node{{DSN: "postgres://app:hunter2@a/shop"}}}, []string{"node 1", "no name"}},
		{"no database", Options{Nodes: []Node{{Name: "east", DSN: "postgres://app:hunter2@a:5433"}}}, []string{`"east"`, "no database", "postgres://a:5433/DATABASE"}},
		{"no database in DSN", Options{DSN: "postgres://app:hunter2@a,b"}, []string{`"a"`, "no database"}},
		{"two hosts in a node", Options{Nodes: []Node{{Name: "east", DSN: "postgres://app:hunter2@a,b/shop"}}}, []string{`"east"`, "2 hosts", "Options.DSN"}},
		{"two nodes of one name", Options{Nodes: []Node{{Name: "east", DSN: "postgres://app:hunter2@a/shop"}, {Name: "east", DSN: "postgres://app:hunter2@b/shop"}}}, []string{`"east"`, "its own name"}},
		{"one server twice", Options{Nodes: []Node{{Name: "east", DSN: "postgres://app:hunter2@a/shop"}, {Name: "west", DSN: "postgres://app:hunter2@a/shop"}}}, []string{`"east"`, `"west"`, "a:5432", "once"}},
		{"too many nodes", Options{Nodes: many(65)}, []string{"65", "64"}},
		{"bad keyword", Options{Nodes: []Node{{Name: "east", DSN: "host=a password=hunter2 sslmode=perhaps"}}}, []string{`"east"`, "sslmode"}},
		{"quoted password", Options{Nodes: []Node{{Name: "east", DSN: "host=a password='hunter2' sslmode=perhaps"}}}, []string{`"east"`, "sslmode"}},
		{"bad URL", Options{DSN: "postgres://app:hunter2@a:port/shop"}, []string{"DSN"}},
		{"unquoted password with a space", Options{DSN: "host=a password=hunter2 hunter2 dbname=shop"}, []string{"DSN"}},
		{"password with spaces round the sign", Options{DSN: "host=a password = hunter2 port=x"}, []string{"DSN"}},
		{"password in capitals", Options{DSN: "host=a PASSWORD=hunter2 port=x"}, []string{"DSN"}},
		{"password with a slash", Options{DSN: "postgres://app:hunter2/x@a/shop"}, []string{"DSN"}},
		{"bad port", Options{Nodes: []Node{{Name: "east", DSN: "postgres://app:hunter2@a:99999/shop"}}}, []string{`"east"`, "port"}},
		{"password as a parameter", Options{DSN: "postgres://a/shop?password=hunter2&sslmode=perhaps"}, []string{"DSN", "sslmode"}},
		{"bad pool setting", Options{DSN: "postgres://app:hunter2@a/shop?pool_max_conns=many"}, []string{"DSN", "pool_max_conns"}},
	} {
		_, err := c.options.configs()
		if err == nil {
			t.Errorf("%s: no error", c.what)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q does not hold %q", c.what, err, part)
			}
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s: error %q holds the password", c.what, err)
		}
	}
	if _, err := (Options{Nodes: many(64)}).configs(); err != nil {
		t.Errorf("64 nodes: %v", err)
	}
}

func TestOptions(t *testing.T) {
	node := []Node{{Name: "a", DSN: "postgres://a/shop"}}
	for what, o := range map[string]Options{
		"no nodes":      {},
		"DSN and Nodes": {DSN: "postgres://a/shop", Nodes: node},
		"Consistency":   {Nodes: node, Consistency: -9},
		"ProbeInterval": {Nodes: node, ProbeInterval: -1},
		"ProbeTimeout":  {Nodes: node, ProbeTimeout: -1},
		"FailoverQueue": {Nodes: node, FailoverQueue: -1},
		"GroupFallback": {Nodes: node, GroupFallback: 9},
		"Guard 9":       {Nodes: node, Guard: 9},
		"Discover":      {Nodes: node, Discover: DiscovererFunc(nil)},
		"DiscoverInt":   {Nodes: node, DiscoverInterval: -1},
		"MaxLag":        {Nodes: node, MaxLag: -1},
		"Balancing 7":   {Nodes: node, Balancing: 7},
		"EjectFactor":   {Nodes: node, EjectFactor: 0.5},
		"KeepShare":     {Nodes: node, KeepShare: 2},
	} {
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), what) || !strings.HasPrefix(err.Error(), "options: ") {
			t.Errorf("%s: validate returns %v", what, err)
		}
	}
	for what, n := range map[string]Node{
		"empty name":        {Name: "a", DSN: "postgres://a/shop", Groups: []string{"x", ""}},
		"weight -1":         {Name: "a", DSN: "postgres://a/shop", Weight: -1},
		"weight NaN":        {Name: "a", DSN: "postgres://a/shop", Weight: math.NaN()},
		"names no database": {Name: "a", DSN: "postgres://a/shop", ProbeDSN: "postgres://b"},
		"ProbeDSN":          {Name: "a", DSN: "postgres://a/shop", ProbeDSN: "://"},
	} {
		if _, err := configsOf([]Node{n}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: configsOf returns %v", what, err)
		}
	}
	if err := (Options{Nodes: node}).validate(); err != nil {
		t.Errorf("Nodes alone: %v", err)
	}
	if err := (Options{DSN: "x"}).validate(); err != nil {
		t.Errorf("DSN alone: %v", err)
	}

	o := Options{}.withDefaults()
	if o.Consistency != DefaultConsistency || o.MaxStaleness != DefaultMaxStaleness || o.WaitBudget != DefaultWaitBudget ||
		o.FailoverWait != DefaultFailoverWait || o.FailoverQueue != DefaultFailoverQueue ||
		o.ProbeInterval != DefaultProbeInterval || o.ProbeTimeout != DefaultProbeTimeout {
		t.Errorf("the zero Options become %+v", o)
	}
	o = Options{MaxStaleness: -1, WaitBudget: -1, FailoverWait: -1}.withDefaults()
	if o.MaxStaleness != 0 || o.WaitBudget != 0 || o.FailoverWait != 0 {
		t.Errorf("negative values become %v, %v and %v, want 0: no limit and no wait", o.MaxStaleness, o.WaitBudget, o.FailoverWait)
	}
	set := Options{MaxStaleness: 1, WaitBudget: 2, FailoverWait: 3, FailoverQueue: 4, ProbeInterval: 5, ProbeTimeout: 6, Consistency: Session}
	if o := set.withDefaults(); o.MaxStaleness != 1 || o.WaitBudget != 2 || o.FailoverWait != 3 || o.FailoverQueue != 4 ||
		o.ProbeInterval != 5 || o.ProbeTimeout != 6 || o.Consistency != Session {
		t.Errorf("what is set becomes %+v", o)
	}
}
