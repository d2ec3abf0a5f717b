package pgtidetest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest"
)

// migrated makes a table, and notes in a file that it did.
func migrated(ctx context.Context, dsn string) error {
	f, err := os.OpenFile(os.Getenv("MIGRATIONS"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), run(ctx, dsn, "create table made (id int)"))
}

func run(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return err // the connection stays open, as some migrators leave them
}

func init() {
	scenarios["migrate"] = func(t *testing.T) {
		o := pgtidetest.Options{Migrate: migrated, Files: fstest.MapFS{"1.sql": {Data: []byte(os.Getenv("FILES"))}}}
		if os.Getenv("FILES") == "" {
			o.Files = nil
		}
		for range 3 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				tide := pgtidetest.NewWith(t, o)
				if _, err := tide.Exec(t.Context(), "insert into made values (1)"); err != nil {
					t.Error(err)
				}
				tide.WaitReplicas(t.Context())
			})
		}
	}
}

// The migrations run once for all tests of all processes, until they change.
func TestTemplateIsMadeOnce(t *testing.T) {
	t.Parallel()
	notes := filepath.Join(t.TempDir(), "notes")
	p := newProgram(t, pgtidetest.EnvClusters+"=1", pgtidetest.EnvLinger+"=3s", "MIGRATIONS="+notes)
	want := 0
	for i, files := range []string{"one", "two", ""} {
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if out, err := p.run(t, "migrate", "FILES="+files); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		all.Wait()
		want++
		if files == "" {
			want += 2 // nobody can know that the others do the same
		}
		// A machine too busy to end a test within the pool's patience gets more clusters.
		clusters := strings.Count(p.log(), " started in ")
		if text, err := os.ReadFile(notes); err != nil || len(text) < want || len(text) > want*clusters {
			t.Errorf("round %d: %d migrations so far, %v; want %d on each of %d clusters", i, len(text), err, want, clusters)
		}
	}
}

// A template that was not finished is not used.
func TestTemplateHalfWay(t *testing.T) {
	t.Parallel()
	broken := true
	// An earlier run of this test may have finished its template on the same cluster.
	o := pgtidetest.Options{Key: rand.Text(), Migrate: func(ctx context.Context, dsn string) error {
		if err := run(ctx, dsn, "create table half ()"); err != nil {
			return err
		}
		if broken {
			return errors.New("out of ideas")
		}
		return run(ctx, dsn, "create table whole ()")
	}}
	wantFatal(t, func(tb testing.TB) { pgtidetest.NewWith(tb, o) }, "make the template database", "run Migrate", "out of ideas")
	broken = false
	tide := pgtidetest.NewWith(t, o)
	if _, err := tide.Exec(t.Context(), "insert into whole default values"); err != nil {
		t.Error(err)
	}
	wantFatal(t, func(tb testing.TB) { pgtidetest.NewWith(tb, pgtidetest.Options{Schema: "create tabel t ()"}) }, "run Schema", "syntax error")
}

// One that was killed half-way is begun anew.
func TestTemplateKilled(t *testing.T) {
	t.Parallel()
	p := newProgram(t, pgtidetest.EnvClusters+"=1", pgtidetest.EnvLinger+"=3s")
	if out, err := p.run(t, "die migrating", "DIE=1"); err == nil || !strings.Contains(out, "dying") {
		t.Fatalf("%v\n%s", err, out)
	}
	p.mustRun(t, "die migrating")
}

func init() {
	scenarios["die migrating"] = func(t *testing.T) {
		tide := pgtidetest.NewWith(t, pgtidetest.Options{Key: "die", Migrate: func(ctx context.Context, dsn string) error {
			if err := run(ctx, dsn, "create table t ()"); err != nil {
				return err
			}
			if os.Getenv("DIE") != "" {
				os.Stdout.WriteString("dying\n")
				os.Exit(7)
			}
			return nil
		}})
		if _, err := tide.Exec(t.Context(), "insert into t default values"); err != nil {
			t.Error(err)
		}
	}
}
