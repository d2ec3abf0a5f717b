package lab_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// envOtherBinDir names a second installation of PostgreSQL, of another major
// version, for primaries and subscribers that differ.
const envOtherBinDir = "PGTIDE_PGBIN_OTHER"

type versionPair struct{ primary, subscriber string }

// versions are the pairs of installations there are to test with.
func versions(t *testing.T) map[string]versionPair {
	t.Helper()
	pairs := map[string]versionPair{"same version": {}}
	if other := os.Getenv(envOtherBinDir); other != "" {
		// A subscriber's default is the cluster's version.
		pairs["other subscriber"] = versionPair{"", other}
		pairs["other primary"] = versionPair{other, start(t, lab.Options{}).BinDir()}
	}
	return pairs
}

// mine is the position as the application's role reads it.
const mine = `select greatest(pg_replication_origin_progress('pg_' || s.oid, false),
	(select max(latest_end_lsn) from pg_stat_subscription where subid = s.oid and relid is null))::text from pg_subscription as s`

func subscriber(t *testing.T, c *lab.Cluster, o lab.SubscriberOptions) *lab.Node {
	t.Helper()
	n, err := c.AddSubscriber(testContext(t), o)
	must(t, err)
	return n
}

func TestSubscriber(t *testing.T) {
	t.Parallel()
	for name, bin := range versions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := start(t, lab.Options{Replicas: 1, BinDir: bin.primary, Auth: lab.Password, Database: "it's mine"})
			primary := c.Primary()
			exec1(t, primary.DSN(), `create table t (i int); insert into t select generate_series(1, 1000);
				create table "Odd name" (id int primary key, at timestamptz not null default now())`)
			sub := subscriber(t, c, lab.SubscriberOptions{BinDir: bin.subscriber})
			if sub.Name() != "subscriber1" || sub.Role() != lab.RoleSubscriber {
				t.Errorf("got %s, a %s, want subscriber1, a subscriber", sub.Name(), sub.Role())
			}
			if got := query[int](t, sub.DSN(), countRows); got != 1000 {
				t.Errorf("rows after the initial copy: got %d, want 1000", got)
			}

			// It is a server of its own and no part of what replicates physically.
			if got := c.Replicas(); len(got) != 1 || got[0].Name() != "node2" {
				t.Errorf("replicas: got %d, want node2 alone", len(got))
			}
			if got := c.Subscribers(); len(got) != 1 || got[0] != sub {
				t.Errorf("subscribers: got %d, want the one", len(got))
			}
			if c.Primary() != primary {
				t.Errorf("primary: got %s, want node1", c.Primary().Name())
			}
			if strings.Contains(c.DSN(), fmt.Sprint(":", sub.Port())) {
				t.Errorf("the cluster's DSN %s names the subscriber", c.DSN())
			}
			if n, err := c.Node("subscriber1"); err != nil || n != sub {
				t.Errorf("node by its name: got %v, %v", n, err)
			}
			const id = "select system_identifier::text from pg_control_system()"
			if query[string](t, sub.DSN(), id) == query[string](t, primary.DSN(), id) {
				t.Error("the subscriber has the primary's system identifier")
			}

			// Changes of all kinds arrive, also without a primary key.
			exec1(t, primary.DSN(), `update t set i = -i where i > 990; delete from t where i between 1 and 10; insert into t values (5000);
				insert into "Odd name" values (1)`)
			must(t, c.WaitCaughtUp(ctx))
			if got := query[string](t, sub.DSN(), `select count(*) || ' ' || sum(i) || ' ' || (select count(*) from "Odd name") from t`); got != "991 485535 1" {
				t.Errorf("content: got %s, want 991 485535 1", got)
			}

			// The position passes that of an unpublished change too, and the
			// application may read it.
			for range 5 {
				exec1(t, primary.DSN(), "drop table if exists own; create table own as select generate_series(1, 1000)")
				began := time.Now()
				must(t, c.WaitCaughtUp(ctx))
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it caught up with an unpublished change after %s", took)
				}
			}
			exec1(t, primary.DSN(), "insert into t values (5001)")
			committed := query[string](t, primary.DSN(), "select pg_current_wal_insert_lsn()::text")
			must(t, c.WaitCaughtUp(ctx))
			if !query[bool](t, sub.DSN(), "select ("+mine+")::pg_lsn >= $1::pg_lsn", committed) {
				t.Errorf("position on the subscriber: got %s, want %s at least", query[string](t, sub.DSN(), mine), committed)
			}
			st := statusOf(t, c, sub.Name())
			if st.Role != lab.RoleSubscriber || st.State != lab.Running || !st.Streaming || st.Source != "node1" || st.BytesBehind < 0 || st.Position == "" || st.Timeline != 0 || st.Error != "" {
				t.Errorf("got status %+v, want a streaming subscriber", st)
			}
			if want := strings.SplitN(st.Version, ".", 2)[0]; !strings.HasPrefix(query[string](t, sub.DSN(), "show server_version"), want) {
				t.Errorf("version in the status: got %s", st.Version)
			}
			t.Logf("PostgreSQL %s to %s", c.Version(), st.Version)
			config, err := pgx.ParseConfig(sub.DSN())
			must(t, err)
			for _, n := range []*lab.Node{primary, sub} {
				for _, line := range n.Log(1000) {
					if strings.Contains(line, config.Password) || strings.Contains(line, "password=") {
						t.Errorf("a password in the log of %s: %s", n.Name(), line)
					}
				}
			}
		})
	}
}

func TestSubscriberFaults(t *testing.T) {
	t.Parallel()
	for name, bin := range versions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := start(t, lab.Options{BinDir: bin.primary})
			primary := c.Primary()
			exec1(t, primary.DSN(), "create table t (i int)")
			sub := subscriber(t, c, lab.SubscriberOptions{Name: "reports", BinDir: bin.subscriber})
			rows := 0
			insert := func() {
				exec1(t, primary.DSN(), "insert into t values (1)")
				rows++
			}
			for _, fault := range []struct {
				name       string
				begin, end func(context.Context) error
				why        string // the answer of WaitCaughtUp; empty if it does not wait
				shows      func(lab.NodeStatus) bool
			}{
				{"cut", sub.Cut, sub.Heal, "cut", func(st lab.NodeStatus) bool { return st.Cut && !st.Streaming }},
				{"pause", sub.PauseReplay, sub.ResumeReplay, "paused", func(st lab.NodeStatus) bool { return st.Paused && !st.Streaming }},
				{"freeze", sub.Freeze, sub.Thaw, "frozen", func(st lab.NodeStatus) bool { return st.State == lab.Frozen }},
				{"stop", sub.Stop, sub.Start, "", func(st lab.NodeStatus) bool { return st.State == lab.Stopped }},
				{"kill", sub.Kill, sub.Start, "", func(st lab.NodeStatus) bool { return st.State == lab.Stopped }},
			} {
				before := rows
				must(t, fault.begin(ctx))
				must(t, fault.begin(ctx)) // nothing to do
				if st := statusOf(t, c, "reports"); !fault.shows(st) || st.Role != lab.RoleSubscriber {
					t.Errorf("%s: got status %+v", fault.name, st)
				}
				insert()
				if fault.why == "" {
					must(t, c.WaitCaughtUp(ctx)) // stopped nodes are not waited for
				} else {
					wantError(t, c.WaitCaughtUp(soon(t)), "reports", fault.why, "deadline")
				}
				if fault.why == "cut" || fault.why == "paused" {
					if got := query[int](t, sub.DSN(), countRows); got != before {
						t.Errorf("%s: rows: got %d, want %d", fault.name, got, before)
					}
				}
				must(t, fault.end(ctx))
				must(t, fault.end(ctx))
				if st := statusOf(t, c, "reports"); fault.shows(st) || !st.Streaming {
					t.Errorf("after %s: got status %+v, want it to stream", fault.name, st)
				}
				must(t, c.WaitCaughtUp(ctx))
				if got := query[int](t, sub.DSN(), countRows); got != rows {
					t.Errorf("after %s: rows: got %d, want %d", fault.name, got, rows)
				}
			}

			// Two faults at once end with the second one, and last over a restart.
			must(t, sub.Cut(ctx))
			must(t, sub.PauseReplay(ctx))
			must(t, sub.Heal(ctx))
			must(t, sub.Stop(ctx))
			wantError(t, sub.Heal(ctx), "reports", "stopped", "start it")
			must(t, sub.Start(ctx))
			insert()
			wantError(t, c.WaitCaughtUp(soon(t)), "reports", "paused")
			must(t, sub.ResumeReplay(ctx))
			must(t, c.WaitCaughtUp(ctx))

			// The primary may come and go.
			must(t, primary.Kill(ctx))
			must(t, sub.Stop(ctx))
			must(t, sub.Start(ctx)) // there is nothing to wait for
			must(t, primary.Start(ctx))
			insert()
			must(t, c.WaitCaughtUp(ctx))
			if got := query[int](t, sub.DSN(), countRows); got != rows {
				t.Errorf("rows after a crash of the primary: got %d, want %d", got, rows)
			}
			began := time.Now()
			must(t, primary.Stop(ctx))
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("a clean stop of the primary took %s", took)
			}
			signal := filepath.Join(c.Dir(), "node1", "data", "standby.signal")
			must(t, os.WriteFile(signal, nil, 0o644))
			if got := c.Primary(); got != nil {
				t.Errorf("primary of a cluster of replicas: got %s, want none", got.Name())
			}
			must(t, os.Remove(signal))
			for _, err := range []error{sub.SetApplyDelay(ctx, time.Second), sub.Rejoin(ctx), c.Promote(ctx, "reports")} {
				wantError(t, err, "reports", "subscriber")
			}
		})
	}
}

// A promotion leaves the subscriber with the old primary, until it is told.
func TestSubscriberFailover(t *testing.T) {
	t.Parallel()
	for name, bin := range versions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := start(t, lab.Options{Replicas: 1, BinDir: bin.primary})
			node1, node2 := nodeNamed(t, c, "node1"), nodeNamed(t, c, "node2")
			exec1(t, node1.DSN(), "create table t (i int); insert into t values (1)")
			sub := subscriber(t, c, lab.SubscriberOptions{BinDir: bin.subscriber})
			must(t, c.WaitCaughtUp(ctx))

			// Both primaries run: it goes on with the old one.
			must(t, c.Promote(ctx, "node2"))
			exec1(t, node1.DSN(), "insert into t values (11)")
			exec1(t, node2.DSN(), "insert into t values (2)")
			eventually(t, 10*time.Second, "the row of the old primary", func() bool { return query[int](t, sub.DSN(), "select sum(i) from t") == 12 })
			wantError(t, c.WaitCaughtUp(ctx), "subscriber1", "reads from node1", "resubscribe")
			if st := statusOf(t, c, "subscriber1"); st.Source != "node1" || !st.Streaming || st.BytesBehind != -1 {
				t.Errorf("got status %+v, want it streaming from node1 and its distance unknown", st)
			}
			wantError(t, sub.Refresh(ctx), "node1", "resubscribe")

			must(t, sub.Resubscribe(ctx))
			if got := query[int](t, sub.DSN(), "select sum(i) from t"); got != 3 {
				t.Errorf("sum after resubscribing: got %d, want 3 without the lost row", got)
			}
			if got := query[int](t, node1.SuperDSN(), "select count(*) from pg_replication_slots"); got != 0 {
				t.Errorf("slots left on the old primary: got %d, want none", got)
			}
			exec1(t, node2.DSN(), "insert into t values (100)")
			must(t, c.WaitCaughtUp(ctx))
			if got := query[int](t, sub.DSN(), "select sum(i) from t"); got != 103 {
				t.Errorf("sum after a change: got %d, want 103", got)
			}
			wantError(t, node2.Resubscribe(ctx), "node2", "not a subscriber")
		})
	}
}

// Where the old primary is a replica now the slot is gone; that stops neither
// the cluster's start nor the way back.
func TestSubscriberWithoutSlot(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := filepath.Join(folder(t), "cluster")
	c := start(t, lab.Options{Dir: dir, Replicas: 1})
	exec1(t, c.Primary().DSN(), "create table t (i int); insert into t values (1)")
	subscriber(t, c, lab.SubscriberOptions{})
	must(t, c.WaitCaughtUp(ctx))
	must(t, c.Primary().Kill(ctx))
	must(t, c.Promote(ctx, "node2"))
	must(t, nodeNamed(t, c, "node1").Rejoin(ctx))
	must(t, c.Close())
	c = start(t, lab.Options{Dir: dir})
	sub := c.Subscribers()[0]
	exec1(t, c.Primary().DSN(), "insert into t values (10)")
	must(t, sub.Cut(ctx))
	must(t, sub.Resubscribe(ctx))
	must(t, sub.Resubscribe(ctx)) // with the same primary
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, sub.DSN(), "select sum(i) from t"); got != 11 {
		t.Errorf("sum after resubscribing: got %d, want 11", got)
	}
}

func TestSubscriberIsKept(t *testing.T) {
	t.Parallel()
	for name, bin := range versions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			dir := filepath.Join(folder(t), "cluster")
			c := start(t, lab.Options{Dir: dir, BinDir: bin.primary, Replicas: 1, Settings: map[string]string{"work_mem": "5MB", "synchronous_standby_names": "node2"}})
			exec1(t, c.Primary().DSN(), "create table t (i int)")
			sub := subscriber(t, c, lab.SubscriberOptions{BinDir: bin.subscriber})
			if got := query[string](t, sub.DSN(), "select current_setting('work_mem') || current_setting('synchronous_standby_names')"); got != "5MB" {
				t.Errorf("work_mem and synchronous replicas of the subscriber: got %s, want 5MB and none", got)
			}
			version := statusOf(t, c, "subscriber1").Version
			must(t, c.Close())

			c = start(t, lab.Options{Dir: dir, BinDir: bin.primary, Detach: true})
			exec1(t, c.Primary().DSN(), "insert into t values (1)")
			must(t, c.WaitCaughtUp(ctx))
			must(t, c.Detach())
			c = start(t, lab.Options{Dir: dir, BinDir: bin.primary, Detach: true})
			must(t, c.WaitCaughtUp(ctx))
			st := statusOf(t, c, "subscriber1")
			if st.Version != version || st.Role != lab.RoleSubscriber || !st.Streaming {
				t.Errorf("got status %+v of the opened cluster, want the streaming subscriber of version %s", st, version)
			}
			if got := query[int](t, c.Subscribers()[0].DSN(), countRows); got != 1 {
				t.Errorf("rows: got %d, want 1", got)
			}
			pids, err := family(st.PID)
			must(t, err)
			must(t, c.Close())
			if living := alive(t, append(pids, st.PID)); living != "" {
				t.Errorf("processes of the subscriber after close:\n%s", living)
			}
		})
	}
}

// With a killed owner its subscriber dies too.
func TestKilledParentLeavesNoSubscriber(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), "cluster")
	child := startChild(t, "subscriber,dir="+dir)
	report := child.report(t)
	if len(report.Ports) != 3 {
		t.Fatalf("got %d nodes, want a primary, a replica and a subscriber", len(report.Ports))
	}
	must(t, child.cmd.Process.Kill())
	child.cmd.Wait()
	eventually(t, 10*time.Second, "all processes gone", func() bool { return alive(t, report.PIDs) == "" })
	c := start(t, lab.Options{Dir: dir})
	must(t, c.WaitCaughtUp(testContext(t)))
}
