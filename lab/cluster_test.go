package lab_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

func TestStartReplicates(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 2})
	if got := c.Primary().Name(); got != "node1" {
		t.Errorf("primary: got %s, want node1", got)
	}
	if got := len(c.Replicas()); got != 2 {
		t.Fatalf("replicas: got %d, want 2", got)
	}
	exec1(t, c.Primary().DSN(), "create table t as select generate_series(1, 1000) as i")
	must(t, c.WaitCaughtUp(ctx))
	for _, n := range c.Replicas() {
		if got := query[int](t, n.DSN(), "select count(*) from t"); got != 1000 {
			t.Errorf("rows on %s: got %d, want 1000", n.Name(), got)
		}
	}
	status, err := c.Status(ctx)
	must(t, err)
	for _, n := range status.Nodes {
		if n.State != lab.Running || n.Timeline != 1 || n.PID == 0 || n.Position == "" || n.BytesBehind < 0 || n.Error != "" {
			t.Errorf("got status %+v, want it running on timeline 1 and known", n)
		}
		if want := n.Role == lab.RoleReplica; n.Streaming != want {
			t.Errorf("%s streaming: got %t, want %t", n.Name, n.Streaming, want)
		}
	}
	text, err := json.Marshal(status)
	must(t, err)
	if !strings.Contains(string(text), `"bytes_behind":0`) {
		t.Errorf("got JSON %s, want bytes_behind of 0 in it", text)
	}

	// The DSN of all nodes serves whichever the client asks for.
	for _, want := range []string{"primary", "standby"} {
		got := query[bool](t, c.DSN()+"&target_session_attrs="+want, "select pg_is_in_recovery()")
		if got != (want == "standby") {
			t.Errorf("connected to %s with %s: in recovery %t", c.DSN(), want, got)
		}
	}
	if _, err := c.Node("node9"); err == nil {
		t.Error("got node9, want an error")
	} else {
		wantError(t, err, "node9", "node1, node2, node3")
	}
}

func TestWaitCaughtUpOnIdleServer(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 1})
	// Switched WAL leaves the insert position just past a segment's header,
	// where no replica will ever report to be.
	exec1(t, c.Primary().SuperDSN(), "select pg_switch_wal()")
	began := time.Now()
	must(t, c.WaitCaughtUp(ctx))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an idle replica took %s, want it at once", took)
	}
}

func TestApplicationRole(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{AppRole: "shop owner", Database: "Shop"})
	dsn := c.Primary().DSN()
	got := query[string](t, dsn, `select concat_ws(' ', rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
		pg_has_role(current_user, 'pg_monitor', 'member'), current_user, current_database(),
		(select datdba::regrole from pg_database where datname = current_database()))
		from pg_roles where rolname = current_user`)
	want := `f f f f f t shop owner Shop "shop owner"`
	if got != want {
		t.Errorf("application role: got %s, want %s", got, want)
	}
	exec1(t, dsn, "create table mine (id int)")
	if !query[bool](t, c.Primary().SuperDSN(), "select rolsuper from pg_roles where rolname = current_user") {
		t.Error("SuperDSN does not lead to a superuser")
	}
}

func TestServerSettings(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Settings: map[string]string{"Work_Mem": "3MB", "max_connections": "20", "wal_level": "logical", "app.note": `it's a \ test`}, Replicas: 1})
	for _, n := range c.Nodes() {
		got := query[string](t, n.DSN(), `select concat_ws('|', current_setting('work_mem'), current_setting('max_connections'), current_setting('wal_level'),
			current_setting('app.note'), current_setting('fsync'), current_setting('synchronous_commit'), current_setting('cluster_name'))`)
		if want := `3MB|20|logical|it's a \ test|off|on|` + n.Name(); got != want {
			t.Errorf("settings of %s: got %s, want %s", n.Name(), got, want)
		}
	}
	durable := start(t, lab.Options{Durable: true})
	if got := query[string](t, durable.Primary().DSN(), "select current_setting('fsync') || current_setting('full_page_writes')"); got != "onon" {
		t.Errorf("durable cluster: got fsync and full_page_writes %s, want onon", got)
	}
}

func TestPasswordAuth(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Auth: lab.Password, Replicas: 1})
	must(t, c.WaitCaughtUp(ctx))
	config, err := pgx.ParseConfig(c.Primary().DSN())
	must(t, err)
	if len(config.Password) < 20 {
		t.Fatalf("got a password of %d characters, want a long one", len(config.Password))
	}
	for _, n := range c.Nodes() {
		if got := query[string](t, n.DSN(), "select current_user"); got != "app" {
			t.Errorf("user on %s: got %s, want app", n.Name(), got)
		}
		query[string](t, n.SuperDSN(), "select rolpassword from pg_authid where rolname = 'app' and rolpassword like 'SCRAM-SHA-256$%'")
		_, err := tryQuery[int](ctx, strings.Replace(n.DSN(), config.Password, "wrong", 1), "select 1")
		wantError(t, err, "28P01")
		for _, line := range n.Log(1000) {
			if strings.Contains(line, config.Password) {
				t.Errorf("password in the log of %s", n.Name())
			}
		}
	}
	// Nobody else may read the passwords, nor see them in the process list.
	info, err := os.Stat(filepath.Join(c.Dir(), "lab.json"))
	must(t, err)
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of lab.json: got %o, want 600", got)
	}
	list, err := exec.Command("ps", "-axww", "-o", "args=").Output()
	must(t, err)
	if strings.Contains(string(list), config.Password) {
		t.Error("password in the process list")
	}
	// A replica made later has them too.
	n, err := c.AddReplica(ctx)
	must(t, err)
	query[int](t, n.DSN(), "select 1")
}

// Clusters are copies of one template, yet strangers to each other, and
// callers at the same time do not get into each other's way.
func TestParallelClusters(t *testing.T) {
	t.Parallel()
	const clusters = 4
	// Two more processes take part.
	children := []*child{startChild(t, "twice,close"), startChild(t, "twice,close")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids, ports := make(map[string]string), make(map[int]string)
	notePort := func(port int, cluster string) {
		mu.Lock()
		defer mu.Unlock()
		if other := ports[port]; other != "" {
			t.Errorf("port %d: got it for %s and %s, want it once", port, other, cluster)
		}
		ports[port] = cluster
	}
	for range clusters {
		wg.Go(func() {
			ctx := testContext(t)
			c, err := lab.Start(ctx, lab.Options{Replicas: 1})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			for _, n := range c.Nodes() {
				notePort(n.Port(), c.Dir())
				id, err := tryQuery[string](ctx, n.SuperDSN(), "select system_identifier::text from pg_control_system()")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other := ids[id]; other != "" && other != c.Dir() {
					t.Errorf("system id %s: got it for %s and %s, want one each", id, other, c.Dir())
				}
				ids[id] = c.Dir()
				mu.Unlock()
			}
			if err := c.WaitCaughtUp(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(ids) != clusters {
		t.Errorf("system ids: got %d, want %d", len(ids), clusters)
	}
	for _, child := range children {
		for range 2 {
			report := child.report(t)
			for _, port := range report.Ports {
				notePort(port, report.Dir)
			}
		}
		child.stdin.Close()
		if err := child.cmd.Wait(); err != nil {
			t.Errorf("child process: %v", err)
		}
	}
}

// Not parallel: it counts what this process has.
func TestCloseLeavesNothing(t *testing.T) {
	ctx := testContext(t)
	before := runtime.NumGoroutine()
	var c *lab.Cluster
	for _, auth := range []lab.Auth{lab.Trust, lab.Password} {
		var err error
		c, err = lab.Start(ctx, lab.Options{Replicas: 1, Auth: auth})
		must(t, err)
		must(t, c.Replicas()[0].Freeze(ctx))
		if auth == lab.Password {
			must(t, c.Primary().Kill(ctx))
		}
		began := time.Now()
		must(t, c.Close())
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closing with a frozen replica took %s, want less than 5s", took)
		}
		must(t, c.Close())
		if _, err := os.Stat(c.Dir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cluster folder: got %v, want it gone", err)
		}
	}
	// Supervisors are gone with their servers; ps itself is a child of ours.
	pids, err := family(os.Getpid())
	must(t, err)
	eventually(t, 5*time.Second, "no process left", func() bool { return alive(t, pids) == "" })
	eventually(t, 5*time.Second, "no goroutine left", func() bool { return runtime.NumGoroutine() <= before })
	if runtime.NumGoroutine() > before {
		t.Error(goroutines())
	}

	if err := c.Primary().Start(ctx); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("start after close: got %v, want ErrClosed", err)
	}
	if _, err := c.Status(ctx); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("status after close: got %v, want ErrClosed", err)
	}
}

// A node's name is its application_name, so settings can choose synchronous
// replicas by it.
func TestSynchronousReplica(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 1, Settings: map[string]string{
		"synchronous_standby_names": "node2", "synchronous_commit": "remote_apply",
	}})
	exec1(t, c.Primary().DSN(), "create table t (i int)")
	replica := c.Replicas()[0]
	for want := 1; want <= 20; want++ {
		exec1(t, c.Primary().DSN(), "insert into t values (1)")
		if got := query[int](t, replica.DSN(), countRows); got != want {
			t.Fatalf("rows on the replica right after the commit: got %d, want %d", got, want)
		}
	}
	must(t, c.WaitCaughtUp(ctx))
}
