package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// says reports whether err is or wraps an error of the server with this code.
func says(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// must executes statements, and fails the test if one cannot be.
func must(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// shutSmart tells a server to take no new clients, and to end when those that it
// has are gone.
func shutSmart(t *testing.T, c *lab.Cluster, node *lab.Node) {
	t.Helper()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range status.Nodes {
		if n.Name != node.Name() {
			continue
		}
		process, err := os.FindProcess(n.PID)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	until(t, node.Name()+" to take no new clients", func() bool {
		conn, err := pgx.Connect(t.Context(), node.DSN())
		if err == nil {
			conn.Close(t.Context())
		}
		return says(err, "57P03")
	})
}

func TestServerThatTakesNoNewClients(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	primary, replica := c.Primary(), c.Replicas()[0]
	db := open(t, c, pgtide.Options{FailoverWait: 500 * time.Millisecond})
	shutSmart(t, c, replica)
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil || len(pgtide.Explain(ctx)) != 2 || last(t, ctx).Role != pgtide.RolePrimary {
		t.Errorf("read: %v; decisions %v; want it at the replica, and then at the primary", err, pgtide.Explain(ctx))
	}
	if got := db.Nodes()[1].State; got != "up" {
		t.Errorf("the replica that still answers its clients is %s, want up", got)
	}

	db.Reset()
	until(t, "the pool to be empty", func() bool { return db.Stat().Nodes[0].Pool.TotalConns() == 0 })
	shutSmart(t, c, primary)
	_, err := db.Exec(t.Context(), "insert into message (text) values ('refused')")
	if !errors.Is(err, pgtide.ErrNoPrimary) || !says(err, "57P03") || pgtide.OutcomeUnknown(err) {
		t.Errorf("write: %v, want ErrNoPrimary with what the server says", err)
	}
	for _, n := range c.Nodes() {
		if err := n.Stop(t.Context()); err != nil { // at once, whoever its clients are
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "writes to go on", func() bool {
		_, err := db.Exec(t.Context(), "insert into message (text) values ('accepted')")
		return err == nil
	})
	if n := count(t, db, "refused"); n != 0 {
		t.Errorf("a write that was refused was done %d times", n)
	}
}

func TestShutdownsUnderLoad(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{FailoverWait: time.Minute})
	var stop atomic.Bool
	var group sync.WaitGroup
	var calls atomic.Int64
	var mu sync.Mutex // guards acked and unknown
	acked, unknown := map[string]bool{}, map[string]bool{}
	for worker := range 4 {
		group.Go(func() {
			for i := 0; !stop.Load(); i++ {
				ctx, text := pgtide.NewSession(t.Context()), fmt.Sprintf("%d-%d", worker, i)
				_, err := db.Exec(ctx, "insert into message (text) values ($1)", text)
				mu.Lock()
				acked[text], unknown[text] = err == nil, pgtide.OutcomeUnknown(err)
				mu.Unlock()
				if err != nil && !pgtide.OutcomeUnknown(err) {
					t.Errorf("write: %v; decisions %v", err, pgtide.Explain(ctx))
					return
				}
				calls.Add(1)
			}
		})
		group.Go(func() {
			for !stop.Load() {
				ctx := pgtide.NewSession(t.Context())
				var n int
				if err := db.QueryRow(ctx, "select count(*) from message").Scan(&n); err != nil {
					t.Errorf("read: %v; decisions %v", err, pgtide.Explain(ctx))
					return
				}
				calls.Add(1)
			}
		})
	}
	load := func() {
		before := calls.Load()
		until(t, "some calls", func() bool { return t.Failed() || calls.Load() > before+200 })
	}
	for _, n := range c.Nodes() {
		load()
		if err := n.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	load()
	stop.Store(true)
	group.Wait()
	rows, err := db.Query(pgtide.OnPrimary(t.Context()), "select text, count(*) from message group by text")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	var text string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&text, &n}, func() error { found[text] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	for text := range acked {
		if n := found[text]; n > 1 || n == 0 && !unknown[text] {
			t.Errorf("%s (acknowledged %t, unknown %t) was written %d times", text, acked[text], unknown[text], n)
		}
	}
}

func TestTerminatedConnections(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	primary, replica := supervisor(t, c.Primary()), supervisor(t, c.Replicas()[0])
	terminate := func(where string, nodes ...*pgx.Conn) {
		for _, conn := range nodes {
			if _, err := conn.Exec(t.Context(), "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'app' and "+where); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "before"))
		terminate("application_name <> 'pgtide watch'", primary, replica)
		read(t, ctx, db, insert(t, ctx, db, "idle connections were terminated"))
	}
	for range 5 {
		terminate("application_name = 'pgtide watch'", primary, replica)
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "the probing connections were terminated"))
		until(t, "the nodes to be up", func() bool { n := db.Nodes(); return n[0].State == "up" && n[1].State == "up" })
	}
	answers := begin(t, map[string]func(context.Context) error{
		"read": func(ctx context.Context) error {
			_, err := db.Exec(ctx, stuck)
			return err
		},
		"write": func(ctx context.Context) error {
			_, err := db.Exec(ctx, stuckInsert, "terminated")
			return err
		},
	})
	asleep(t, c.Primary(), 1)
	asleep(t, c.Replicas()[0], 1)
	terminate("wait_event = 'PgSleep'", primary, replica)
	for _, a := range collect(t, answers, 2) {
		if a.name == "read" && (a.err != nil || last(t, a.ctx).Role != pgtide.RolePrimary) {
			t.Errorf("read under way: %v; decisions %v; want it made again at the primary", a.err, pgtide.Explain(a.ctx))
		}
		if a.name == "write" && (!pgtide.OutcomeUnknown(a.err) || !says(a.err, "57P01")) {
			t.Errorf("write under way: %v, want ErrOutcomeUnknown with what the server says", a.err)
		}
	}
	if n := count(t, db, "terminated"); n != 0 {
		t.Errorf("the write that was terminated was done %d times", n)
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	super := supervisor(t, c.Primary())
	must(t, super, "alter role app connection limit 3")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One is the watcher's; two more fill the node up.
	fill := func(node *lab.Node) (empty func()) {
		var conns []*pgx.Conn
		until(t, node.Name()+" to be full", func() bool {
			conn, err := pgx.Connect(t.Context(), node.DSN())
			if err == nil {
				conns = append(conns, conn)
			} else if !says(err, "53300") {
				t.Fatal(err)
			}
			return err != nil && len(conns) == 2
		})
		return func() {
			for _, conn := range conns {
				conn.Close(context.Background())
			}
		}
	}
	probed := func(i int) {
		before := db.Stat().Nodes[i].Probes
		until(t, "more probes", func() bool { return db.Stat().Nodes[i].Probes > before+2 })
		if n := db.Nodes()[i]; n.State != "up" {
			t.Errorf("%s is %s while it is full (%s), want the watcher to keep its connection", n.Name, n.State, n.Err)
		}
	}

	empty := fill(c.Replicas()[0])
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil || len(pgtide.Explain(ctx)) != 2 || last(t, ctx).Role != pgtide.RolePrimary {
		t.Errorf("read while the replica is full: %v; decisions %v; want it at the replica, and then at the primary", err, pgtide.Explain(ctx))
	}
	probed(1)
	empty()
	until(t, "the replica to be used again", func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	})

	db.Reset()
	empty = fill(c.Primary())
	began := time.Now()
	_, err := db.Exec(t.Context(), "insert into message (text) values ('refused')")
	if !says(err, "53300") || pgtide.OutcomeUnknown(err) || !strings.Contains(err.Error(), c.Primary().Name()) {
		t.Errorf("write while the primary is full: %v, want what the server says, and the node's name", err)
	}
	if d := time.Since(began); d > pgtide.DefaultFailoverWait/2 {
		t.Errorf("that took %v: waiting for another primary is in vain", d)
	}
	probed(0)
	empty()
	until(t, "writes to go on", func() bool {
		_, err := db.Exec(t.Context(), "insert into message (text) values ('accepted')")
		return err == nil
	})
	if n := count(t, db, "refused"); n != 0 {
		t.Errorf("a write that was refused was done %d times", n)
	}
}

func TestPasswordThatChanges(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1, Auth: lab.Password})
	config, err := pgx.ParseConfig(c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	old, password := config.Password, atomic.Pointer[string]{}
	password.Store(&old)
	db := open(t, c, pgtide.Options{Configure: func(_ string, c *pgxpool.Config) error {
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.Password = *password.Load()
			return nil
		}
		return nil
	}})
	ctx := pgtide.NewSession(t.Context())
	id := insert(t, ctx, db, "before")
	until(t, "a connection to each node", func() bool {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, id)
		return last(t, ctx).Role == pgtide.RoleReplica
	})
	const next = "5econd-p@ssword"
	must(t, supervisor(t, c.Primary()), "alter role app password '"+next+"'")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}

	for range 10 { // over the connections that there are
		read(t, ctx, db, insert(t, ctx, db, "with the old connections"))
	}
	db.Reset()
	for _, sql := range []string{"select 1", "insert into message (text) values ('refused')"} {
		began := time.Now()
		_, err = db.Exec(t.Context(), sql)
		if !says(err, "28P01") || !strings.Contains(err.Error(), c.Primary().Name()) {
			t.Errorf("%s with the old password: %v, want what the server says, and the node's name", sql, err)
		}
		if err != nil && (strings.Contains(err.Error(), old) || strings.Contains(err.Error(), next)) {
			t.Errorf("the error tells a password: %v", err)
		}
		if d := time.Since(began); d > pgtide.DefaultFailoverWait/2 {
			t.Errorf("that took %v: waiting for another primary is in vain", d)
		}
	}
	password.Store(new(string))
	*password.Load() = next
	read(t, ctx, db, insert(t, ctx, db, "with the new password"))
}
