package pgtidetest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidetest"
)

// startExisting starts a cluster that this package knows nothing of.
func startExisting(t *testing.T) (c *lab.Cluster, dsn string) {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, strings.Replace(c.DSN(), "//app@", "//postgres@", 1)
}

func TestExisting(t *testing.T) {
	t.Parallel()
	c, dsn := startExisting(t)
	o := pgtidetest.Options{DSN: dsn, Schema: schema}
	super, err := pgx.Connect(t.Context(), c.Primary().SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.Background())
	var database string
	next := make(chan *victim, 1)
	outer := t
	t.Run("one", func(t *testing.T) {
		tide := pgtidetest.NewWith(t, o)
		database = tide.DSN(tide.Primary())
		tide.Freeze()
		write(t, tide, "a")
		wantShown(t, tide, "", tide.Replicas()...)
		tide.Step()
		write(t, tide, "b")
		wantShown(t, tide, "a", tide.Replicas()...)
		tide.Delay(time.Hour)

		// The next test has to wait for this one, and finds all in order.
		go func() {
			next <- suffer(outer, func(tb testing.TB) { pgtidetest.NewWith(tb, o).WaitReplicas(context.Background()) })
		}()
		until(t, "another test to wait for its turn", func() bool {
			var n int
			err := super.QueryRow(t.Context(), "select count(*) from pg_locks where locktype = 'advisory' and not granted").Scan(&n)
			return err == nil && n == 1
		})
	})
	if v := <-next; v.Failed() {
		t.Errorf("the next test: %s", v.text.String())
	}
	if conn, err := pgx.Connect(t.Context(), database); err == nil {
		conn.Close(t.Context())
		t.Error("the database of a test that is over is still there")
	}

	// What a killed test leaves is undone by the next.
	if _, err := super.Exec(t.Context(), "create database pgtidetest_left"); err != nil {
		t.Fatal(err)
	}
	if err := c.Replicas()[0].PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("after a killed one", func(t *testing.T) {
		tide := pgtidetest.NewWith(t, o)
		var left int
		if err := tide.QueryRow(t.Context(), "select count(*) from pg_database where datname = 'pgtidetest_left'").Scan(&left); err != nil || left != 0 {
			t.Errorf("%d databases of a killed test, %v; want none", left, err)
		}
	})
	wantFatal(t, func(tb testing.TB) {
		tide := pgtidetest.NewWith(tb, o)
		tide.Kill(tide.Primary())
	}, "not for tests to break", pgtidetest.EnvDSN)

	o.Shared = true
	one, two := pgtidetest.NewWith(t, o), pgtidetest.NewWith(t, o)
	write(t, one, "one")
	wantShown(t, two, "", two.Primary())
	wantFatal(t, func(tb testing.TB) { pgtidetest.NewWith(tb, o).Freeze() }, "Options.Shared")
}
