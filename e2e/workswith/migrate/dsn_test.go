package migrate_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

// scheme makes URLs like pgtide://app@a,b,c/shop work, for those who give
// migrate nothing else.
const scheme = "pgtide"

func init() { database.Register(scheme, byURL{}) }

type byURL struct{ database.Driver }

// Open implements [database.Driver].
func (byURL) Open(url string) (database.Driver, error) {
	db, err := sql.Open(pgtidesql.DriverName, "postgres"+strings.TrimPrefix(url, scheme))
	if err != nil {
		return nil, err
	}
	return pgx.WithInstance(db, &pgx.Config{})
}

func TestDSN(t *testing.T) {
	c := paused.New(t, seed)
	if _, err := c.DB.Exec(pgtide.WithConsistency(t.Context(), pgtide.Eventual), `select value from setting`); err != nil {
		t.Fatal(err)
	}
	source, err := iofs.New(files, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	m, err := migrate.NewWithSourceInstance("iofs", source, scheme+strings.TrimPrefix(c.DSN(), "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if source, database := m.Close(); source != nil || database != nil {
			t.Errorf("Close returns %v and %v", source, database)
		}
	})
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	at(t, m, 3, false)
	c.OnReplica(t, `select * from post`)
	if err := m.Down(); err != nil {
		t.Error(err)
	}
}
