package service_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

// Several processes that start at once each find the schema on every replica
// when Migrate returns, though only one of them made it.
func TestMigrate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const delay = 700 * time.Millisecond
	primary, replica := cluster.Primary(), cluster.Replicas()[0]

	super, err := pgx.Connect(ctx, primary.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.WithoutCancel(ctx))
	if _, err := super.Exec(ctx, "create database migrated owner "+cluster.AppRole()); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	if err := replica.SetApplyDelay(ctx, delay); err != nil {
		t.Fatal(err)
	}
	defer replica.SetApplyDelay(context.WithoutCancel(ctx), 0)

	const processes = 3
	errs := make(chan error, processes)
	for range processes {
		go func() { errs <- migrateAlone(ctx, replica.Name(), primary.DSN(), replica.DSN()) }()
	}
	for range processes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// migrateAlone does what a process does at its start, and reads the replica
// then, whatever it has.
func migrateAlone(ctx context.Context, replica string, primaryDSN, replicaDSN string) error {
	other, err := pgtide.Open(ctx, pgtide.Options{Nodes: []pgtide.Node{
		{Name: "primary", DSN: inDatabase(primaryDSN, "migrated")},
		{Name: replica, DSN: inDatabase(replicaDSN, "migrated")},
	}})
	if err != nil {
		return err
	}
	defer other.Close()
	if err := service.Migrate(ctx, other); err != nil {
		return err
	}
	_, err = other.Exec(pgtide.OnNode(pgtide.WithConsistency(ctx, pgtide.Eventual), replica), "select id, created_at, updated_at, text from message")
	return err
}

func inDatabase(dsn, name string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(err)
	}
	u.Path = "/" + name
	return u.String()
}
