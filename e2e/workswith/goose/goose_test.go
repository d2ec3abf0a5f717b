package goose_test

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

//go:embed migrations/*.sql broken/*.sql
var files embed.FS

const seed = `
	create table setting (name text primary key, value text not null);
	insert into setting values ('title', 'a blog')`

func sub(t *testing.T, folder string) fs.FS {
	t.Helper()
	f, err := fs.Sub(files, folder)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// newProvider returns a provider as a service makes one at its start.
func newProvider(t *testing.T, db *sql.DB, folder string, options ...goose.ProviderOption) *goose.Provider {
	t.Helper()
	// Tries for ten seconds, once each second: goose's shortest.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 10), lock.WithUnlockTimeout(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	options = append(options, goose.WithSessionLocker(locker), goose.WithGoMigrations(inTx, inDB))
	provider, err := goose.NewProvider(goose.DialectPostgres, db, sub(t, folder), options...)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// allAtPrimary fails the test if a call of the session of ctx was not sent to
// the primary.
func allAtPrimary(t *testing.T, ctx context.Context) {
	t.Helper()
	decisions := pgtide.Explain(ctx)
	if len(decisions) == 0 {
		t.Error("the session has no decisions")
	}
	for _, d := range decisions {
		if d.Role != pgtide.RolePrimary {
			t.Errorf("a call went to %v, want all at the primary", d)
		}
	}
}

// locks counts the sessions that hold goose's lock.
func locks(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	const query = `select count(*) from pg_locks where locktype = 'advisory' and granted
		and (classid::bigint << 32) | objid::bigint = $1`
	ctx := pgtide.OnPrimary(t.Context())
	if err := db.QueryRowContext(ctx, query, lock.DefaultLockID).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A service migrates its database when it starts, and is ready once the
// replicas have the new schema.
func TestMigrateAndWait(t *testing.T) {
	c := paused.New(t, seed)
	db := c.SQL(t)
	provider := newProvider(t, db, "migrations")
	session := pgtide.NewSession(t.Context())

	t.Run("a replica serves what was there before", func(t *testing.T) {
		served := c.ReplicaReads()
		var value string
		if err := db.QueryRowContext(t.Context(), `select value from setting where name = 'title'`).Scan(&value); err != nil || value != "a blog" {
			t.Fatalf("the setting is %q, %v", value, err)
		}
		if c.ReplicaReads() != served+1 {
			t.Error("no replica served it")
		}
	})

	t.Run("all migrations run on the primary", func(t *testing.T) {
		ctx := pgtide.OnPrimary(session)
		results, err := provider.Up(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != 5 {
			t.Errorf("applied %v, want 5 migrations", results)
		}
		allAtPrimary(t, ctx)
		if current, target, err := provider.GetVersions(ctx); err != nil || current != 5 || target != 5 {
			t.Errorf("at version %d of %d, %v; want 5 of 5", current, target, err)
		}
		c.OnReplica(t, `select * from post`)
		c.OnReplica(t, `select * from goose_db_version`)
	})

	t.Run("the session and the whole process see the schema at once", func(t *testing.T) {
		for _, ctx := range []context.Context{t.Context(), session} {
			var n, views int
			if err := db.QueryRowContext(ctx, `select count(*), sum(views) from post`).Scan(&n, &views); err != nil || n != 4 || views != 0 {
				t.Errorf("there are %d posts with %d views, %v; want 4 with none", n, views, err)
			}
		}
	})

	t.Run("the lock is released and what was set is gone", func(t *testing.T) {
		if n := locks(t, db); n != 0 {
			t.Errorf("%d sessions hold the lock, want none", n)
		}
		var timeout string
		if err := db.QueryRowContext(pgtide.OnPrimary(t.Context()), `show lock_timeout`).Scan(&timeout); err != nil || timeout != "0" {
			t.Errorf("lock_timeout is %s, %v; a migration's setting outlived it", timeout, err)
		}
	})

	t.Run("an index built concurrently is valid", func(t *testing.T) {
		var valid bool
		const query = `select indisvalid from pg_index where indexrelid = 'post_title'::regclass`
		if err := db.QueryRowContext(t.Context(), query).Scan(&valid); err != nil || !valid {
			t.Errorf("valid: %v, %v", valid, err)
		}
	})

	t.Run("a migration that fails leaves nothing", func(t *testing.T) {
		both, err := goose.NewProvider(goose.DialectPostgres, db, sub(t, "broken"), goose.WithAllowOutofOrder(true))
		if err != nil {
			t.Fatal(err)
		}
		_, err = both.Up(pgtide.OnPrimary(t.Context()))
		var partial *goose.PartialError
		var pg *pgconn.PgError
		if !errors.As(err, &partial) || !errors.As(err, &pg) || pg.Code != "23505" {
			t.Errorf("Up returns %v, want a unique violation in a partial error", err)
		}
		var table sql.NullString
		if err := db.QueryRowContext(t.Context(), `select to_regclass('never')`).Scan(&table); err != nil || table.Valid {
			t.Errorf("the table is %q, %v; want it rolled back", table.String, err)
		}
	})

	t.Run("a process that did not migrate asks the primary", func(t *testing.T) { testElsewhere(t, c, provider) })

	t.Run("wait until the replicas have the schema", func(t *testing.T) {
		// What a service does after its migrations, before it says that it is ready:
		ctx := pgtide.NewSession(t.Context())
		if _, err := provider.Up(pgtide.OnPrimary(ctx)); err != nil {
			t.Fatal(err)
		}
		token, err := c.DB.CurrentToken(ctx)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		err = c.DB.WaitFor(short, token)
		if !errors.Is(err, pgtide.ErrNoFreshReplica) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("WaitFor returns %v while replay is paused", err)
		}
		if !strings.Contains(err.Error(), `node "node`) || !strings.Contains(err.Error(), token.LSN()) {
			t.Errorf("WaitFor returns %q, which does not say which node is where", err)
		}

		c.Replay(t)
		long, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := c.DB.WaitFor(long, token); err != nil {
			t.Fatal(err)
		}
		reader := pgtide.WithToken(t.Context(), token)
		var n int
		if err := db.QueryRowContext(reader, `select count(*) from post where views = 0`).Scan(&n); err != nil || n != 4 {
			t.Errorf("there are %d posts, %v; want 4", n, err)
		}
		if d := pgtide.Explain(reader); len(d) != 1 || d[0].Role != pgtide.RoleReplica {
			t.Errorf("the new table was read at %v, want a replica", d)
		}
	})

	t.Run("down again", func(t *testing.T) {
		ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
		if _, err := provider.DownTo(ctx, 0); err != nil {
			t.Fatal(err)
		}
		allAtPrimary(t, ctx)
		// The session's token is good for a wait too.
		token, ok := pgtide.TokenFrom(ctx)
		if !ok {
			t.Fatal("the session has no token")
		}
		long, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := c.DB.WaitFor(long, token); err != nil {
			t.Fatal(err)
		}
		c.OnReplica(t, `select * from post`)
		if n := locks(t, db); n != 0 {
			t.Errorf("%d sessions hold the lock, want none", n)
		}
	})
}
