package goose_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

// Tools that take no more than a driver's name and a connection string name all
// nodes in it.
func TestDSN(t *testing.T) {
	c := paused.New(t, seed)
	db, err := sql.Open(pgtidesql.DriverName, c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.DB.Exec(pgtide.WithConsistency(t.Context(), pgtide.Eventual), `select value from setting`); err != nil {
		t.Fatal(err)
	}

	t.Run("a provider", func(t *testing.T) {
		provider := newProvider(t, db, "migrations")
		ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
		if result, err := provider.UpByOne(ctx); err != nil || result.Source.Version != 1 {
			t.Fatalf("UpByOne applies %v, %v", result, err)
		}
		allAtPrimary(t, ctx)
		status, err := provider.Status(ctx)
		if err != nil || len(status) != 5 || status[0].State != goose.StateApplied || status[1].State != goose.StatePending {
			t.Errorf("Status is %v, %v; want the first of 5 applied", status, err)
		}
		if _, err := provider.Down(ctx); err != nil {
			t.Error(err)
		}
	})

	t.Run("the functions of goose itself", func(t *testing.T) {
		goose.SetBaseFS(files)
		goose.SetLogger(goose.NopLogger())
		if err := goose.SetDialect("postgres"); err != nil {
			t.Fatal(err)
		}
		ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
		if err := goose.UpContext(ctx, db, "migrations"); err != nil {
			t.Fatal(err)
		}
		allAtPrimary(t, ctx)
		if version, err := goose.GetDBVersionContext(ctx, db); err != nil || version != 5 {
			t.Errorf("at version %d, %v; want 5", version, err)
		}
		if err := goose.ResetContext(ctx, db, "migrations"); err != nil {
			t.Error(err)
		}
	})

	// goose opens only drivers that it knows by name, and so does its command.
	t.Run("goose opens no driver of others", func(t *testing.T) {
		_, err := goose.OpenDBWithDriver(pgtidesql.DriverName, c.DSN())
		if err == nil || !strings.Contains(err.Error(), "unknown dialect") {
			t.Errorf("OpenDBWithDriver returns %v, want that the dialect is unknown", err)
		}
	})
}
