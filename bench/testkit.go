package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest"
)

const (
	testDatabases = 200 // of each figure, or as many as testTime has room for
	testTime      = 90 * time.Second
	testWorkers   = 8

	// testDatabaseBudget bounds, in ms, the median time of a test's own database.
	testDatabaseBudget = 60
	// testClusterBudget bounds, in ms, the first: a keeper, a cluster and a template.
	testClusterBudget = 2000
)

// testSchema is what a service may have: each table is three files to copy.
var testSchema = func() string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "create table t%d (id bigint generated always as identity primary key, name text not null, at timestamptz);\ncreate index on t%d (name);\n", i, i)
	}
	return b.String()
}()

// testkitSuite measures what a database of its own costs a test, and how much of
// that is PostgreSQL's.
func testkitSuite(ctx context.Context, r *report) error {
	dir, err := os.MkdirTemp("", "bench") // clusters of our own, started cold
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, value := range map[string]string{
		pgtidetest.EnvDir: dir, pgtidetest.EnvLinger: "1s", pgtidetest.EnvKeep: "0", pgtidetest.EnvDSN: "",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	k := &testkit{ctx: ctx, report: r}
	if err := k.first(); err != nil {
		return err
	}
	if err := k.alone(); err != nil {
		return err
	}
	return k.together()
}

type testkit struct {
	ctx    context.Context
	report *report
}

// database makes a test's database and returns how long that took, in ms. use, if
// set, is called before it ends.
func (k *testkit) database(use func(*pgtidetest.Tide) error) (took float64, err error) {
	err = asTest(k.ctx, func(t *stage) error {
		began := time.Now()
		tide := pgtidetest.NewWith(t, pgtidetest.Options{Schema: testSchema})
		took = ms(time.Since(began))
		if use != nil {
			return use(tide)
		}
		return nil
	})
	return took, err
}

func (k *testkit) first() error {
	took, err := k.database(func(tide *pgtidetest.Tide) error {
		return tide.QueryRow(k.ctx, "show server_version").Scan(&k.report.Postgres)
	})
	if err != nil {
		return err
	}
	k.report.add(result{Name: "first database: keeper, primary, two replicas, template", Ours: took, Unit: "ms", Budget: testClusterBudget})
	return nil
}

// alone makes databases one after the other, each followed by those that plain SQL
// makes on the same primary.
func (k *testkit) alone() error {
	var ours []float64
	bare := map[string]*bareTimes{"file_copy": {}, "wal_log": {}}
	for began := time.Now(); len(ours) < testDatabases && time.Since(began) < testTime; {
		took, err := k.database(func(tide *pgtidetest.Tide) error {
			for _, strategy := range []string{"file_copy", "wal_log"} {
				if err := k.bare(tide, strategy, bare[strategy]); err != nil {
					return fmt.Errorf("strategy %s: %w", strategy, err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("database %d: %w", len(ours)+1, err)
		}
		ours = append(ours, took)
	}
	r, copied := k.report, bare["file_copy"]
	p50 := quantile(ours, 0.5)
	r.add(result{Name: fmt.Sprintf("a test's database, visible on two replicas: p50 of %d", len(ours)), Ours: p50, Unit: "ms", Budget: testDatabaseBudget})
	r.add(result{Name: "the same: p99", Ours: quantile(ours, 0.99), Unit: "ms", Shown: true})
	r.add(result{
		Name: "the same against plain SQL on one node", Ours: p50, Theirs: quantile(copied.connected, 0.5), Against: "create database, connect",
		Unit: "ms", Ratio: p50 / quantile(copied.connected, 0.5), Shown: true,
	})
	for _, strategy := range []string{"file_copy", "wal_log"} {
		b := bare[strategy]
		r.add(result{Name: "plain SQL, " + strategy + ", connected: p50", Ours: quantile(b.connected, 0.5), Unit: "ms", Shown: true})
		r.add(result{Name: "plain SQL, " + strategy + ", connected: p99", Ours: quantile(b.connected, 0.99), Unit: "ms", Shown: true})
		r.add(result{Name: "plain SQL, " + strategy + ", on two replicas: p50", Ours: quantile(b.visible, 0.5), Unit: "ms", Shown: true})
	}
	r.add(result{Name: "PostgreSQL's own share of p50", Ours: 100 * quantile(copied.visible, 0.5) / p50, Unit: "%", Shown: true})
	return nil
}

// bareTimes are how long a database took until somebody was connected to it, and
// until both replicas had it, in ms.
type bareTimes struct{ connected, visible []float64 }

// bare makes a database with plain SQL, and drops it.
func (k *testkit) bare(tide *pgtidetest.Tide, strategy string, times *bareTimes) error {
	conn, err := pgx.Connect(k.ctx, tide.SuperDSN(tide.Primary()))
	if err != nil {
		return err
	}
	defer conn.Close(k.ctx)
	var template string
	const find = "select datname from pg_database where not datallowconn and datname <> 'template0'"
	if err := conn.QueryRow(k.ctx, find).Scan(&template); err != nil {
		return fmt.Errorf("find the template: %w", err)
	}
	var replicas []*pgx.Conn
	for _, name := range tide.Replicas() {
		replica, err := pgx.Connect(k.ctx, tide.SuperDSN(name))
		if err != nil {
			return err
		}
		defer replica.Close(k.ctx)
		replicas = append(replicas, replica)
	}
	began := time.Now()
	if _, err := conn.Exec(k.ctx, "create database bare template "+pgx.Identifier{template}.Sanitize()+" strategy "+strategy); err != nil {
		return err
	}
	made := time.Since(began)
	for _, replica := range replicas {
		for found := false; !found; { // each look is a round trip; nothing tells
			if err := replica.QueryRow(k.ctx, "select exists (select from pg_database where datname = 'bare')").Scan(&found); err != nil {
				return err
			}
		}
	}
	times.visible = append(times.visible, ms(time.Since(began)))
	config := conn.Config()
	config.Database = "bare"
	began = time.Now()
	one, err := pgx.ConnectConfig(k.ctx, config)
	if err != nil {
		return err
	}
	times.connected = append(times.connected, ms(made+time.Since(began)))
	if err := one.Close(k.ctx); err != nil {
		return err
	}
	_, err = conn.Exec(k.ctx, "drop database bare with (force)")
	return err
}

// together has many tests make databases at once. They wait for each other's
// clusters, of which there are as many as processors.
func (k *testkit) together() error {
	var mu sync.Mutex
	var took []float64
	var errs []error
	var all sync.WaitGroup
	began := time.Now()
	for range testWorkers {
		all.Go(func() {
			for range testDatabases / testWorkers {
				if time.Since(began) > testTime {
					return
				}
				one, err := k.database(nil)
				mu.Lock()
				took, errs = append(took, one), append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	name := fmt.Sprintf("%d tests at once, with the wait for a cluster", testWorkers)
	k.report.add(result{Name: fmt.Sprintf("%s: p50 of %d", name, len(took)), Ours: quantile(took, 0.5), Unit: "ms", Shown: true})
	k.report.add(result{Name: name + ": p99", Ours: quantile(took, 0.99), Unit: "ms", Shown: true})
	k.report.add(result{Name: "the same, for each database that is done", Ours: ms(time.Since(began)) / float64(len(took)), Unit: "ms", Shown: true})
	return nil
}
