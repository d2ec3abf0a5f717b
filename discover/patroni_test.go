package discover_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
)

const patroniDSN = "postgres://app:secret@/shop?sslmode=require"

// answering is a client whose every request gets this status and body.
func answering(status int, body string) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// shown are nodes as a test compares them: name=host:port/database.
func shown(t *testing.T, nodes []pgtide.Node) []string {
	t.Helper()
	var all []string
	for _, n := range nodes {
		c, err := pgxpool.ParseConfig(n.DSN)
		if err != nil {
			t.Fatalf("DSN of node %q: %v", n.Name, err)
		}
		text := fmt.Sprintf("%s=%s:%d/%s", n.Name, c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.Database)
		if n.Zone != "" || n.Weight != 0 {
			text += fmt.Sprintf(" zone %s weight %v", n.Zone, n.Weight)
		}
		all = append(all, text)
	}
	return all
}

func wantNodes(t *testing.T, d pgtide.Discoverer, want ...string) []pgtide.Node {
	t.Helper()
	nodes, err := d.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, nodes); !slices.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
	return nodes
}

// wantError fails the test unless d's error says all of want, and nothing that
// is secret.
func wantError(t *testing.T, d pgtide.Discoverer, want ...string) error {
	t.Helper()
	nodes, err := d.Discover(t.Context())
	if err == nil {
		t.Fatalf("nodes %q, want an error", shown(t, nodes))
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want it to say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q tells the password", err)
	}
	return err
}

func TestPatroniMembers(t *testing.T) {
	for _, test := range []struct {
		name, members string
		want          []string
	}{
		{"as 3.0 writes them", `
			{"name": "b", "role": "replica", "state": "running", "api_url": "http://10.0.0.2:8008/patroni", "host": "10.0.0.2", "port": 5432, "timeline": 1, "lag": 0},
			{"name": "a", "role": "leader", "state": "running", "api_url": "http://10.0.0.1:8008/patroni", "host": "10.0.0.1", "port": 5433, "timeline": 1}`,
			[]string{"a=10.0.0.1:5433/shop", "b=10.0.0.2:5432/shop"}},
		{"as 4.1 writes them", `
			{"name": "a", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 5, "lsn": "0/4000060"},
			{"name": "b", "role": "quorum_standby", "state": "streaming", "host": "10.0.0.2", "port": 5432, "timeline": 5, "tags": {"failover_priority": 1}, "receive_lag": 0, "receive_lsn": "0/4000060", "replay_lag": "unknown", "lag": "unknown"}`,
			[]string{"a=10.0.0.1:5432/shop", "b=10.0.0.2:5432/shop"}},
		{"members without a server", `
			{"name": "a", "role": "leader", "state": "running", "host": "a", "port": 5432},
			{"name": "b", "role": "replica", "state": "creating replica", "host": "b", "port": 5432, "lag": "unknown"},
			{"name": "c", "role": "replica", "state": "", "lag": "unknown"}`,
			[]string{"a=a:5432/shop"}},
		{"servers that are down may come back", `
			{"name": "a", "role": "replica", "state": "stopped", "host": "a", "port": 5432},
			{"name": "b", "role": "replica", "state": "start failed", "host": "b", "port": 5432}`,
			[]string{"a=a:5432/shop", "b=b:5432/shop"}},
		{"noloadbalance", `
			{"name": "a", "role": "leader", "state": "running", "host": "a", "port": 5432, "tags": {"noloadbalance": true}},
			{"name": "b", "role": "replica", "state": "running", "host": "b", "port": 5432, "tags": {"noloadbalance": true}},
			{"name": "c", "role": "replica", "state": "running", "host": "c", "port": 5432, "tags": {"noloadbalance": false, "nofailover": true, "nosync": true}},
			{"name": "d", "role": "standby_leader", "state": "running", "host": "d", "port": 5432, "tags": {"noloadbalance": "yes"}}`,
			[]string{"a=a:5432/shop", "c=c:5432/shop"}},
		{"IPv6", `{"name": "a", "role": "leader", "state": "running", "host": "2001:db8::1", "port": 5432},
			{"name": "b", "role": "replica", "state": "running", "host": "fe80::1%eth0", "port": 5432}`,
			[]string{"a=2001:db8::1:5432/shop", "b=fe80::1%eth0:5432/shop"}},
		{"no port", `{"name": "a", "role": "leader", "state": "running", "host": "a"}`, []string{"a=a:5432/shop"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantNodes(t, discover.Patroni{
				Endpoints: []string{"10.0.0.1:8008"},
				DSN:       patroniDSN,
				Client:    answering(http.StatusOK, `{"members": [`+test.members+`], "scope": "shop"}`),
			}, test.want...)
		})
	}
}

func TestPatroniBadAnswer(t *testing.T) {
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"name":"n%d","role":"replica","state":"running","host":"h%d","port":5432}`, i, i)
	}
	member := func(name, rest string) string {
		return `{"members": [{"name": "` + name + `", "role": "leader", "state": "running", ` + rest + `}]}`
	}
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"nothing", 200, "", "not that of Patroni"},
		{"a page", 200, "<html>It works!</html>", "not that of Patroni"},
		{"another service", 200, `{"status": "ok"}`, "no members"},
		{"a list", 200, `[]`, "not that of Patroni"},
		{"null", 200, `null`, "no members"},
		{"more behind it", 200, `{"members": []}{}`, "not that of Patroni"},
		{"no members", 200, `{"members": []}`, "no members"},
		{"none that serves", 200, `{"members": [{"name": "a", "state": "creating replica", "host": "a"}]}`, "names no node"},
		{"an error", 503, `{"members": []}`, "status 503"},
		{"10000 members", 200, `{"members": [` + strings.Join(many, ",") + `]}`, "10000 members, the limit is 64"},
		{"too long", 200, strings.Repeat(" ", 2<<20), "longer than"},
		{"a port that is none", 200, member("a", `"host": "a", "port": 70000`), "not that of Patroni"},
		{"a list of hosts", 200, member("a", `"host": "a,b"`), "is not the name or address of a host"},
		{"a socket", 200, member("a", `"host": "/tmp"`), "is not the name or address of a host"},
		{"more than a host", 200, member("a", `"host": "a' sslmode='disable"`), "is not the name or address of a host"},
		{"no name", 200, member("", `"host": "a"`), "no name"},
		{"a name twice", 200, `{"members": [{"name": "a", "host": "a"}, {"name": "a", "host": "b"}]}`, `two nodes are called "a"`},
		{"a server twice", 200, `{"members": [{"name": "a", "host": "a"}, {"name": "b", "host": "a", "port": 5432}]}`, `members "a" and "b" are both at a`},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, discover.Patroni{
				Endpoints: []string{"http://user:secret@10.0.0.1:8008"},
				DSN:       patroniDSN,
				Client:    answering(test.status, test.body),
			}, test.want)
		})
	}
}

func TestPatroniBadOptions(t *testing.T) {
	ok := answering(http.StatusOK, `{"members": [{"name": "a", "host": "a"}]}`)
	wantError(t, discover.Patroni{}, "no Endpoints")
	for _, endpoint := range []string{"", "ftp://a", "http://", "http://user:sec/secret@a", "http://user:secret@a:port", "::secret"} {
		wantError(t, discover.Patroni{Endpoints: []string{"a:8008", endpoint}, DSN: patroniDSN, Client: ok}, "endpoint 2 is not like http://host:8008")
	}
	for _, dsn := range []string{
		"postgres://app:sec%ret/secret@/shop",
		"postgres://app:secret@/shop?secret",
		"app:secret@shop",
		"user=app password='secret",
		`user=app dbname=shop password=secret\`,
		"postgres://app:secret@/shop?pgtide_shadow=true",
		"postgres://app:secret@/shop?sslmode=perhaps",
		"postgres://app:secret@/shop?sslrootcert=/nowhere/root.crt",
	} {
		wantError(t, discover.Patroni{Endpoints: []string{"a:8008"}, DSN: dsn, Client: ok}, "DSN")
	}
}

func TestDSNForms(t *testing.T) {
	for _, dsn := range []string{
		"postgres://app:secret@/shop",
		"postgresql://app:secret@other:1/shop?sslmode=disable",
		"pgtide://app:secret@/shop?",
		"postgres://app:secret@/shop?sslmode=disable&",
		"postgres://app:sec%3Fret@/shop",
		"postgres://app:sec?ret@/shop",
		"postgres:///shop?user=app&password=secret&host=other&port=1",
		"user=app password=secret dbname=shop",
		"host=other port=1 user=app password='sec ret' dbname=shop ",
		"user=app dbname=shop target_session_attrs=read-write pool_max_conns=3",
	} {
		t.Run(dsn, func(t *testing.T) {
			wantNodes(t, discover.Patroni{
				Endpoints: []string{"a:8008"}, DSN: dsn,
				Client: answering(http.StatusOK, `{"members": [{"name": "a", "host": "2001:db8::1", "port": 5433}]}`),
			}, "a=2001:db8::1:5433/shop")
		})
	}
}

func TestPatroniMap(t *testing.T) {
	var lags []int64
	nodes := wantNodes(t, discover.Patroni{
		Endpoints: []string{"a:8008"}, DSN: patroniDSN,
		Client: answering(http.StatusOK, `{"members": [
			{"name": "a", "role": "leader", "host": "a", "tags": {"zone": "eu-1"}},
			{"name": "b", "role": "replica", "host": "b", "lag": 42, "tags": {"zone": "eu-2", "group": "analytics", "weight": 0.5}},
			{"name": "c", "role": "replica", "host": "c", "lag": "unknown", "tags": {"backup": true}}]}`),
		Map: func(m discover.Member, n *pgtide.Node) bool {
			lags = append(lags, m.Lag)
			n.Zone, _ = m.Tags["zone"].(string)
			n.Weight, _ = m.Tags["weight"].(float64)
			if group, ok := m.Tags["group"].(string); ok {
				n.Groups = []string{group}
			}
			return m.Tags["backup"] != true
		},
	}, "a=a:5432/shop zone eu-1 weight 0", "b=b:5432/shop zone eu-2 weight 0.5")
	if !slices.Equal(nodes[1].Groups, []string{"analytics"}) {
		t.Errorf("groups %q, want those of the tag", nodes[1].Groups)
	}
	if want := []int64{0, 42, -1}; !slices.Equal(lags, want) {
		t.Errorf("lags %v, want %v", lags, want)
	}
}

const oneMember = `{"members": [{"name": "a", "role": "leader", "state": "running", "host": "a", "port": 5432}]}`

func TestPatroniOverHTTP(t *testing.T) {
	var user, password string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/cluster" {
			http.NotFound(w, r)
			return
		}
		user, password, _ = r.BasicAuth()
		io.WriteString(w, oneMember)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	wantNodes(t, discover.Patroni{Endpoints: []string{"http://user:secret@" + host + "/"}, DSN: patroniDSN}, "a=a:5432/shop")
	if user != "user" || password != "secret" {
		t.Errorf("the endpoint saw user %q and password %q, want those of its URL", user, password)
	}
	wantNodes(t, discover.Patroni{Endpoints: []string{host}, DSN: patroniDSN}, "a=a:5432/shop")
	wantError(t, discover.Patroni{Endpoints: []string{"http://user:secret@" + host + "/elsewhere"}, DSN: patroniDSN}, "status 404")

	gone := httptest.NewServer(nil)
	gone.Close()
	wantError(t, discover.Patroni{Endpoints: []string{gone.URL}, DSN: patroniDSN}, "refused")
	wantNodes(t, discover.Patroni{Endpoints: []string{gone.URL, server.URL}, DSN: patroniDSN}, "a=a:5432/shop")

	secure := httptest.NewUnstartedServer(server.Config.Handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the client that trusts it not
	secure.StartTLS()
	defer secure.Close()
	wantError(t, discover.Patroni{Endpoints: []string{secure.URL}, DSN: patroniDSN}, "certificate")
	wantNodes(t, discover.Patroni{Endpoints: []string{secure.URL}, DSN: patroniDSN, Client: secure.Client()}, "a=a:5432/shop")
}

// hanging is a transport whose hosts answer but those called hang, which do so
// after the request has been given up.
func hanging(asked chan<- string) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked <- r.URL.Hostname()
		if strings.HasPrefix(r.URL.Hostname(), "hang") {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(oneMember)), Request: r}, nil
	})}
}

func TestPatroniEndpointsThatHang(t *testing.T) {
	for _, test := range []struct {
		endpoints []string
		asked     []string
		took      time.Duration
		fails     bool
	}{
		{[]string{"a", "hang"}, []string{"a"}, 0, false},
		{[]string{"hang", "a", "b"}, []string{"hang", "a"}, 250 * time.Millisecond, false},
		{[]string{"hang", "hang2", "a"}, []string{"hang", "hang2", "a"}, 500 * time.Millisecond, false},
		{[]string{"hang"}, []string{"hang"}, discover.DefaultEndpointTimeout, true},
		{[]string{"hang", "hang2"}, []string{"hang", "hang2"}, discover.DefaultEndpointTimeout + 250*time.Millisecond, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := make(chan string, len(test.endpoints))
			d := discover.Patroni{Endpoints: test.endpoints, DSN: patroniDSN, Client: hanging(asked)}
			began := time.Now()
			_, err := d.Discover(t.Context())
			if took := time.Since(began); took != test.took || (err != nil) != test.fails {
				t.Errorf("endpoints %q: error %v after %v, want %v after %v", test.endpoints, err, took, test.fails, test.took)
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want one of a deadline", err)
			}
			close(asked)
			var got []string
			for host := range asked {
				got = append(got, host)
			}
			if !slices.Equal(got, test.asked) {
				t.Errorf("endpoints %q: asked %q, want %q", test.endpoints, got, test.asked)
			}
		})
	}
}

func TestPatroniContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		// A client that heeds no context holds nobody up.
		deaf := make(chan struct{})
		defer close(deaf)
		client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			<-deaf
			return nil, errors.New("too late")
		})}
		began := time.Now()
		_, err := discover.Patroni{Endpoints: []string{"a", "b"}, DSN: patroniDSN, Client: client}.Discover(ctx)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 100*time.Millisecond {
			t.Errorf("error %v after %v, want that of the context after 100ms", err, took)
		}
	})
}

// FuzzPatroni: whatever an endpoint says, the nodes are fit for pgtide and lead
// to a host of the answer alone.
func FuzzPatroni(f *testing.F) {
	f.Add([]byte(oneMember))
	f.Add([]byte(`{"members": [{"name": "a", "host": "::1", "port": 1, "tags": {"noloadbalance": true}, "lag": "unknown"}, {"name": "b", "host": "b"}]}`))
	f.Add([]byte(`{"members": [{"name": "a", "host": "a' host='b"}]}`))
	f.Add([]byte(`{"members": [{"name": "a", "host": "a,b/../?x=y&%00"}, null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, dsn := range []string{"postgres://app:secret@/shop?sslmode=disable", "user=app password=secret dbname=shop sslmode=disable"} {
			d := discover.Patroni{Endpoints: []string{"a:8008"}, DSN: dsn, Client: answering(http.StatusOK, string(body))}
			nodes, err := d.Discover(t.Context())
			if err != nil {
				if len(nodes) > 0 || strings.Contains(err.Error(), "secret") && !strings.Contains(string(body), "secret") {
					t.Fatalf("error %v with %d nodes", err, len(nodes))
				}
				continue
			}
			if len(nodes) == 0 || len(nodes) > pgtide.MaxNodes {
				t.Fatalf("%d nodes and no error", len(nodes))
			}
			hosts := map[string]bool{}
			var answer struct {
				Members []struct {
					Host string `json:"host"`
				} `json:"members"`
			}
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatalf("nodes of an answer that is no JSON: %v", err)
			}
			for _, m := range answer.Members {
				hosts[m.Host] = true
			}
			for _, n := range nodes {
				c, err := pgxpool.ParseConfig(n.DSN)
				if err != nil {
					t.Fatal(err)
				}
				cc := c.ConnConfig
				if !hosts[cc.Host] || len(cc.Fallbacks) > 0 || cc.Database != "shop" || cc.Password != "secret" || cc.TLSConfig != nil || len(cc.RuntimeParams) > 0 {
					t.Fatalf("host %q became another connection string than the template's: %+v", cc.Host, cc)
				}
			}
		}
	})
}
