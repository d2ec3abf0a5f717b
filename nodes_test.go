package pgtide_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestReplicaThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	var stop atomic.Bool
	var group sync.WaitGroup
	var reads atomic.Int64
	for range 8 {
		group.Go(func() {
			for !stop.Load() {
				ctx := pgtide.NewSession(t.Context())
				var one int
				if err := db.QueryRow(ctx, "select 1").Scan(&one); err != nil {
					t.Errorf("read while replicas die: %v; decisions %v", err, pgtide.Explain(ctx))
					return
				}
				reads.Add(1)
			}
		})
	}
	for _, n := range c.Nodes()[1:] {
		before := reads.Load()
		until(t, "some reads", func() bool { return reads.Load() > before+200 })
		if err := n.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		before = reads.Load()
		until(t, "some reads", func() bool { return reads.Load() > before+200 })
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	group.Wait()
}

func TestRestartedReplicaIsProvenAgain(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	// With an hour between probes, and no connection in the pool that would
	// break, only a new connection can tell that the replica was restarted. A
	// restarted standby may show less than it did. A probe that Open has left
	// under way may still see the server stop: then it is another try.
	var db *pgtide.DB
	until(t, "a restart that no probe sees", func() bool {
		db = open(t, c, pgtide.Options{ProbeInterval: time.Hour, ProbeTimeout: 10 * time.Second, MaxStaleness: -1})
		if err := replica.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := replica.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return db.Nodes()[1].State == "up"
	})
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	if d := pgtide.Explain(ctx); len(d) != 2 || d[0].Node != replica.Name() || d[1].Role != pgtide.RolePrimary {
		t.Errorf("decisions %v, want the restarted replica not to be believed and the primary to serve the read", d)
	}
	until(t, "the replica to be used again", func() bool {
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Node == replica.Name()
	})
}

func TestFrozenReplicaIsNoticed(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	replica := c.Replicas()[0]
	if err := replica.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "the frozen replica to be called down", func() bool { return db.Nodes()[1].State == "down" })
	if d := time.Since(began); d > 1500*time.Millisecond {
		t.Errorf("a frozen replica was noticed after %v, want 1.5 s at most", d)
	}
	if _, err := db.Exec(t.Context(), "select 1"); err != nil {
		t.Fatal(err)
	}
	if err := replica.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be used again", func() bool {
		ctx := pgtide.NewSession(t.Context())
		_, err := db.Exec(ctx, "select 1")
		return err == nil && last(t, ctx).Role == pgtide.RoleReplica
	})
}

func TestQueryCancelledByRecoveryIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1, Settings: map[string]string{"max_standby_streaming_delay": "0"}})
	db := open(t, c, pgtide.Options{})
	setup := pgtide.NewSession(t.Context())
	if _, err := db.Exec(setup, "insert into message (text) select 'x' from generate_series(1, 1000)"); err != nil {
		t.Fatal(err)
	}
	if err := db.WaitFor(t.Context(), mustToken(t, db)); err != nil {
		t.Fatal(err)
	}
	ctx := pgtide.NewSession(t.Context())
	result := make(chan error, 1)
	go func() {
		var n int
		result <- db.QueryRow(ctx, "select count(*) from message, pg_sleep(2)").Scan(&n)
	}()
	super, err := pgx.Connect(t.Context(), c.Replicas()[0].SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	until(t, "the query to run on the replica", func() bool {
		var n int
		if err := super.QueryRow(t.Context(), "select count(*) from pg_stat_activity where wait_event = 'PgSleep'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	// Replaying an exclusive lock cancels every query that is in its way.
	if _, err := db.Exec(t.Context(), "truncate message"); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("query that replay cancelled: %v; decisions %v", err, pgtide.Explain(ctx))
	}
	if db.Stat().Retries != 1 {
		t.Errorf("%d retries, want 1: the query was not cancelled", db.Stat().Retries)
	}
}

func TestNodeThatIsDownIsSpared(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{})
	db := open(t, c, pgtide.Options{})
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the node to be called down", func() bool { return db.Nodes()[0].State == "down" })
	before := db.Stat().Nodes[0].Probes
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := db.Exec(ctx, "insert into message (text) values ('x')"); err == nil {
		t.Fatal("no error")
	}
	if n := db.Stat().Nodes[0].Probes - before; n > 30 {
		t.Errorf("%d attempts to connect to a dead node in half a second, want at most one each 20 ms", n)
	}
}

func TestReplicaThatCrashedIsProvenAgain(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	replica := c.Replicas()[0]
	super := func(n *lab.Node, statements ...string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), n.SuperDSN())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	super(c.Primary(), "checkpoint")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	super(replica, "checkpoint") // recovery will begin here
	ctx := pgtide.NewSession(t.Context())
	writer := open(t, c, pgtide.Options{})
	id := insert(t, ctx, writer, "hi")
	token, _ := pgtide.TokenFrom(ctx)
	if err := writer.WaitFor(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	// With an hour between probes only a new connection can tell.
	db := open(t, c, pgtide.Options{ProbeInterval: time.Hour, ProbeTimeout: 10 * time.Second, MaxStaleness: -1})

	// A server process dies, and recovery stops before the next commit.
	victim := super(replica, "alter system set recovery_min_apply_delay = '1h'", "select pg_reload_conf()")
	process, err := os.FindProcess(int(victim.PgConn().PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to have recovered without the row", func() bool {
		conn, err := pgx.Connect(t.Context(), replica.DSN())
		if err != nil {
			return false
		}
		defer conn.Close(t.Context())
		var n int
		return conn.QueryRow(t.Context(), "select count(*) from message where id = $1", id).Scan(&n) == nil && n == 0
	})
	if db.Nodes()[1].State != "up" {
		t.Fatal("a probe has seen the crash: this shows nothing")
	}
	read(t, pgtide.WithToken(t.Context(), token), db, id)
}
