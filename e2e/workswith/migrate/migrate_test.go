package migrate_test

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

//go:embed migrations/*.sql broken/*.sql
var files embed.FS

const seed = `
	create table setting (name text primary key, value text not null);
	insert into setting values ('title', 'a blog')`

// open returns the migrations of a folder, with a *sql.DB of their own.
func open(t *testing.T, db *pgtide.DB, folder string) *migrate.Migrate {
	t.Helper()
	driver, err := pgx.WithInstance(pgtidesql.Open(db), &pgx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return with(t, driver, folder)
}

func with(t *testing.T, driver database.Driver, folder string) *migrate.Migrate {
	t.Helper()
	source, err := iofs.New(files, folder)
	if err != nil {
		t.Fatal(err)
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgtide", driver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if source, database := m.Close(); source != nil || database != nil {
			t.Errorf("Close returns %v and %v", source, database)
		}
	})
	return m
}

// at fails the test unless the database is at a version.
func at(t *testing.T, m *migrate.Migrate, want uint, wantDirty bool) {
	t.Helper()
	version, dirty, err := m.Version()
	if err != nil || version != want || dirty != wantDirty {
		t.Errorf("at version %d, dirty %v, %v; want %d, %v", version, dirty, err, want, wantDirty)
	}
}

// locks counts the sessions that hold an advisory lock.
func locks(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	const query = `select count(*) from pg_locks where locktype = 'advisory' and granted`
	if err := db.QueryRowContext(pgtide.OnPrimary(t.Context()), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A service migrates its database when it starts, and is ready once the
// replicas have the new schema.
func TestMigrateAndWait(t *testing.T) {
	c := paused.New(t, seed)
	db := c.SQL(t)

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

	m := open(t, c.DB, "migrations")
	t.Run("up", func(t *testing.T) {
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
		at(t, m, 3, false)
		if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
			t.Errorf("a second Up returns %v, want no change", err)
		}
		c.OnReplica(t, `select * from post`)
		c.OnReplica(t, `select * from schema_migrations`)
		if n := locks(t, db); n != 0 {
			t.Errorf("%d sessions hold the lock, want none", n)
		}
	})

	t.Run("the whole process sees the schema at once", func(t *testing.T) {
		var n, views int
		if err := db.QueryRowContext(t.Context(), `select count(*), sum(views) from post where title like '% post'`).Scan(&n, &views); err != nil || n != 2 || views != 0 {
			t.Errorf("there are %d posts with %d views, %v; want 2 with none", n, views, err)
		}
		var valid bool
		const query = `select indisvalid from pg_index where indexrelid = 'post_title'::regclass`
		if err := db.QueryRowContext(t.Context(), query).Scan(&valid); err != nil || !valid {
			t.Errorf("the index built concurrently is valid: %v, %v", valid, err)
		}
	})

	t.Run("down, by steps and to a version", func(t *testing.T) {
		if err := m.Steps(-2); err != nil {
			t.Fatal(err)
		}
		at(t, m, 1, false)
		if err := m.Migrate(2); err != nil {
			t.Fatal(err)
		}
		at(t, m, 2, false)
		if err := m.Down(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Version(); !errors.Is(err, migrate.ErrNilVersion) {
			t.Errorf("Version returns %v, want that there is none", err)
		}
	})

	t.Run("wait until the replicas have the schema", func(t *testing.T) {
		// What a service does after its migrations, before it says that it is ready:
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
		token, err := c.DB.CurrentToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err = c.DB.WaitFor(short, token)
		if !errors.Is(err, pgtide.ErrNoFreshReplica) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("WaitFor returns %v while replay is paused", err)
		}
		if !strings.Contains(err.Error(), `node "node`) || !strings.Contains(err.Error(), token.LSN()) {
			t.Errorf("WaitFor returns %q, which does not say which node is where", err)
		}

		c.Replay(t)
		long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.DB.WaitFor(long, token); err != nil {
			t.Fatal(err)
		}
		reader := pgtide.WithToken(t.Context(), token)
		var n int
		if err := db.QueryRowContext(reader, `select count(*) from post where views = 0`).Scan(&n); err != nil || n != 2 {
			t.Errorf("there are %d posts, %v; want 2", n, err)
		}
		if d := pgtide.Explain(reader); len(d) != 1 || d[0].Role != pgtide.RoleReplica {
			t.Errorf("the new table was read at %v, want a replica", d)
		}
	})
}

func TestFailure(t *testing.T) {
	c := paused.New(t, seed)
	db := c.SQL(t)
	if _, err := c.DB.Exec(pgtide.WithConsistency(t.Context(), pgtide.Eventual), `select value from setting`); err != nil {
		t.Fatal(err)
	}
	m := open(t, c.DB, "broken")

	t.Run("a migration that fails leaves a dirty version", func(t *testing.T) {
		err := m.Up()
		var failed database.Error
		var pg *pgconn.PgError
		if !errors.As(err, &failed) || !errors.As(failed.OrigErr, &pg) || pg.Code != "23505" {
			t.Errorf("Up returns %v, want a unique violation", err)
		}
		at(t, m, 4, true)
		if err := m.Up(); !errors.As(err, new(migrate.ErrDirty)) {
			t.Errorf("Up on a dirty version returns %v", err)
		}
		if n := locks(t, db); n != 0 {
			t.Errorf("%d sessions hold the lock, want none", n)
		}
		var table sql.NullString
		if err := db.QueryRowContext(t.Context(), `select to_regclass('never')`).Scan(&table); err != nil || table.Valid {
			t.Errorf("the table is %q, %v; want it rolled back", table.String, err)
		}
	})

	t.Run("which can be forced", func(t *testing.T) {
		if err := m.Force(3); err != nil {
			t.Fatal(err)
		}
		at(t, m, 3, false)
		if err := m.Steps(-3); err != nil {
			t.Error(err)
		}
	})

	t.Run("everything can be dropped", func(t *testing.T) {
		if err := m.Drop(); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.QueryRowContext(t.Context(), `select count(*) from pg_tables where schemaname = 'public'`).Scan(&n); err != nil || n != 0 {
			t.Errorf("there are %d tables, %v; want none", n, err)
		}
		c.OnReplica(t, `select * from post`)
	})
}
