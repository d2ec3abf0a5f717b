package patroni_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/discover"
)

// cluster is a Patroni cluster over an etcd of its own.
type cluster struct {
	*home
	bin     string // the folder of PostgreSQL's programs
	etcd    string // host:port
	members map[string]*member
}

type member struct {
	name    string
	dir     string
	port    int // PostgreSQL's
	rest    string
	process *process
}

// Patroni's rule is that ttl covers loop_wait and two times retry_timeout. These
// are as short as it gets: a dead leader is replaced after about ttl.
const (
	ttl          = 5
	loopWait     = 1
	retryTimeout = 2
)

// startCluster starts a cluster of so many members: n1, n2, ...
func startCluster(t *testing.T, members int) *cluster {
	t.Helper()
	c := &cluster{home: newHome(t), bin: binaries(t), members: map[string]*member{}}
	peer := freePort(t)
	c.etcd = freePort(t)
	c.run(t, "etcd", program(t, "etcd"), "--name", "etcd", "--data-dir", filepath.Join(c.dir, "etcd"),
		"--listen-client-urls", "http://"+c.etcd, "--advertise-client-urls", "http://"+c.etcd,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", "etcd=http://"+peer, "--heartbeat-interval", "50", "--election-timeout", "500")
	until(t, "etcd", func() error {
		response, err := http.Get("http://" + c.etcd + "/health")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	for i := range members {
		c.add(t, fmt.Sprintf("n%d", i+1))
	}
	c.await(t, slices.Sorted(maps.Keys(c.members))...)
	conn := c.connect(t, c.leader(t))
	defer conn.Close(context.Background())
	for _, sql := range []string{
		"create role app login", "grant pg_monitor to app", "create database shop owner app",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range c.members {
		until(t, m.name+" to have the database", func() error {
			var n int
			err := c.ask(t, m, "select count(*) from pg_database where datname = 'shop'", &n)
			if err == nil && n == 0 {
				err = fmt.Errorf("it lacks it")
			}
			return err
		})
	}
	return c
}

// add starts one more member. It is in the cluster after await.
func (c *cluster) add(t *testing.T, name string) *member {
	t.Helper()
	m := c.members[name]
	if m == nil {
		postgres := freePort(t)
		_, port, _ := net.SplitHostPort(postgres)
		m = &member{name: name, dir: filepath.Join(c.dir, name), rest: freePort(t)}
		m.port, _ = strconv.Atoi(port)
		c.members[name] = m
		config, err := json.Marshal(c.config(m, postgres)) // which is YAML
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if c.as != nil {
			if err := os.Chown(m.dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(m.dir, "patroni.yml"), config, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.process = c.run(t, name, program(t, "patroni"), filepath.Join(m.dir, "patroni.yml"))
	return m
}

type object = map[string]any

func (c *cluster) config(m *member, postgres string) object {
	return object{
		"scope": "tide", "name": m.name,
		"restapi": object{"listen": m.rest, "connect_address": m.rest},
		"etcd3":   object{"host": c.etcd},
		"bootstrap": object{
			"dcs": object{
				"ttl": ttl, "loop_wait": loopWait, "retry_timeout": retryTimeout,
				// Tests may have a failover lose what the dead leader kept to itself.
				"maximum_lag_on_failover": 64 << 20,
				"postgresql": object{
					"use_pg_rewind": true,
					"parameters": object{
						// The machine is not going to crash; the servers are.
						"fsync": "off", "synchronous_commit": "local", "shared_buffers": "16MB",
						"max_connections": 100, "wal_keep_size": "256MB",
						"wal_retrieve_retry_interval": "500ms",
					},
				},
			},
			"initdb": []any{object{"encoding": "UTF8"}, object{"locale": "C"}, "no-sync"},
		},
		"postgresql": object{
			"listen": postgres, "connect_address": postgres,
			"data_dir": filepath.Join(m.dir, "data"), "bin_dir": c.bin, "pgpass": filepath.Join(m.dir, "pgpass"),
			"authentication": object{
				"superuser":   object{"username": "postgres"},
				"replication": object{"username": "replicator"},
			},
			"parameters": object{"unix_socket_directories": m.dir},
			"pg_hba":     []string{"local all all trust", "host all all 127.0.0.1/32 trust", "host replication replicator 127.0.0.1/32 trust"},
			"basebackup": []any{object{"checkpoint": "fast"}, "no-sync"},
		},
	}
}

// endpoints are the REST APIs of the members.
func (c *cluster) endpoints() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.members)) {
		all = append(all, c.members[name].rest)
	}
	return all
}

// report is what the first member that answers says of the cluster.
func (c *cluster) report() ([]discover.Member, error) {
	client := http.Client{Timeout: 2 * time.Second}
	err := fmt.Errorf("there are no members")
	for _, endpoint := range c.endpoints() {
		var response *http.Response
		if response, err = client.Get("http://" + endpoint + "/cluster"); err != nil {
			continue
		}
		var cluster struct{ Members []discover.Member }
		err = json.NewDecoder(response.Body).Decode(&cluster)
		response.Body.Close()
		if err == nil {
			return cluster.Members, nil
		}
	}
	return nil, err
}

// await waits until exactly these members are running, one of them leads and all
// others stream from it: Patroni says running earlier than that, and hands over
// to a member that lacks what the leader has.
func (c *cluster) await(t *testing.T, names ...string) {
	t.Helper()
	until(t, fmt.Sprintf("a cluster of %q", names), func() error {
		members, err := c.report()
		if err != nil {
			return err
		}
		var running []string
		var leader *member
		for _, m := range members {
			if m.State == "running" || m.State == "streaming" {
				running = append(running, m.Name)
			}
			if m.Role == "leader" {
				leader = c.members[m.Name]
			}
		}
		if leader == nil || len(members) != len(names) || !slices.Equal(running, names) {
			return fmt.Errorf("it is %+v", members)
		}
		var streaming int
		err = c.ask(t, leader, "select count(*) from pg_stat_replication where state = 'streaming'", &streaming)
		if err == nil && streaming != len(names)-1 {
			err = fmt.Errorf("%d stream from %s", streaming, leader.name)
		}
		return err
	})
}

// ask runs a query of one value on m, as superuser.
func (c *cluster) ask(t *testing.T, m *member, sql string, value any) error {
	conn, err := pgx.Connect(t.Context(), m.dsn("postgres", "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return conn.QueryRow(t.Context(), sql).Scan(value)
}

func (m *member) dsn(role, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", role, m.port, database)
}

// leader is the member that leads now.
func (c *cluster) leader(t *testing.T) *member {
	t.Helper()
	var leader *member
	until(t, "a leader", func() error {
		members, err := c.report()
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Role == "leader" && m.State == "running" {
				leader = c.members[m.Name]
				return nil
			}
		}
		return fmt.Errorf("none among %+v", members)
	})
	return leader
}

// follower is a member other than the leader.
func (c *cluster) follower(leader *member) *member { return c.members[c.others(leader)[0]] }

// others are the names of all members but m.
func (c *cluster) others(m *member) []string {
	all := slices.Sorted(maps.Keys(c.members))
	return slices.DeleteFunc(all, func(name string) bool { return name == m.name })
}

// switchover has the leader hand over to another member.
func (c *cluster) switchover(t *testing.T, to *member) {
	t.Helper()
	from := c.leader(t)
	order, _ := json.Marshal(object{"leader": from.name, "candidate": to.name})
	response, err := http.Post("http://"+from.rest+"/switchover", "application/json", bytes.NewReader(order))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("switchover: status %d: %s", response.StatusCode, text)
	}
}

// hold stops what sends m's WAL to its replicas: what is committed from now on is
// there alone.
func (c *cluster) hold(t *testing.T, m *member) {
	t.Helper()
	var pids []int32
	if err := c.ask(t, m, "select array_agg(pid) from pg_stat_replication", &pids); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
}

// kill ends a member and its server with SIGKILL.
func (c *cluster) kill(t *testing.T, m *member) {
	t.Helper()
	m.process.kill(t)
	if err := killServer(filepath.Join(m.dir, "data")); err != nil {
		t.Error(err)
	}
}

// remove ends a member in an orderly way, for good.
func (c *cluster) remove(t *testing.T, m *member) {
	t.Helper()
	m.process.signal(t, syscall.SIGTERM)
	delete(c.members, m.name)
}

// connect connects to m as superuser.
func (c *cluster) connect(t *testing.T, m *member) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), m.dsn("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// binaries is the folder of a whole installation of PostgreSQL: Patroni uses
// more of it than a server.
func binaries(t *testing.T) string {
	t.Helper()
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range append([]string{os.Getenv("PGTIDE_PGBIN")}, folders...) {
		if _, err := os.Stat(filepath.Join(dir, "pg_rewind")); dir != "" && err == nil {
			return dir
		}
	}
	path, err := exec.LookPath("pg_rewind")
	if err != nil {
		t.Fatal("Patroni needs pg_rewind and its kin: install the package postgresql, or set PGTIDE_PGBIN to their folder")
	}
	return filepath.Dir(path)
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run scripts/patroni.sh", err)
	}
	return path
}

// freePort chooses an address below those that the system hands out and that
// other tests' servers choose from.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10000+rand.IntN(9000)))
		if l, err := net.Listen("tcp4", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("there is no free port from 10000 to 19000")
	return ""
}

// until polls for a state of other programs, which send no signal.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	err := ok()
	for deadline := time.Now().Add(patience); err != nil; err = ok() {
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("still waiting for %s: %v", what, strings.TrimSpace(err.Error()))
		}
		<-time.After(20 * time.Millisecond)
	}
}
