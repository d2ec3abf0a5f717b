package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// core measures what every call pays.
func core(ctx context.Context, r *report) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 2})
	if err != nil {
		return err
	}
	defer cluster.Close()
	r.Postgres = cluster.Version()
	decision(r)
	if err := calls(ctx, r, cluster); err != nil {
		return err
	}
	return starts(ctx, r, cluster.BinDir())
}

// starts measures how long a primary with two replicas takes from nothing and
// from the cache.
func starts(ctx context.Context, r *report, binaries string) error {
	cache, err := os.MkdirTemp("", "pgtide-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	if err := os.Chmod(cache, 0o755); err != nil { // the servers may run as another user
		return err
	}
	if err := os.Setenv(lab.EnvCache, cache); err != nil {
		return err
	}
	var took []float64
	for range 4 {
		began := time.Now()
		cluster, err := lab.Start(ctx, lab.Options{Replicas: 2, BinDir: binaries})
		if err != nil {
			return err
		}
		took = append(took, time.Since(began).Seconds())
		if err := cluster.Close(); err != nil {
			return err
		}
	}
	r.add(result{Name: "lab: primary and two replicas from nothing", Ours: took[0], Unit: "s", Budget: 2})
	r.add(result{Name: "lab: the same from the cache", Ours: median(took[1:]), Unit: "s", Budget: 0.8})
	return nil
}

// calls compares calls with those of a plain pool on the same node.
func calls(ctx context.Context, r *report, cluster *lab.Cluster) error {
	replica, primary := cluster.Replicas()[0], cluster.Primary()
	db, err := pgtide.Open(ctx, pgtide.Options{Nodes: []pgtide.Node{
		{Name: primary.Name(), DSN: primary.DSN()},
		{Name: replica.Name(), DSN: replica.DSN()},
	}})
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, "create table bench (id bigint generated always as identity primary key, v text not null)"); err != nil {
		return err
	}
	var id int64
	if err := db.QueryRow(ctx, "insert into bench (v) values ('x') returning id").Scan(&id); err != nil {
		return err
	}
	token, err := db.CurrentToken(ctx)
	if err != nil {
		return err
	}
	if err := db.WaitFor(ctx, token); err != nil {
		return err
	}
	replicaPool, err := pgxpool.New(ctx, replica.DSN())
	if err != nil {
		return err
	}
	defer replicaPool.Close()
	primaryPool, err := pgxpool.New(ctx, primary.DSN())
	if err != nil {
		return err
	}
	defer primaryPool.Close()

	session := pgtide.NewSession(ctx)
	read := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, ctx context.Context) side {
		return side{"pgxpool", func(context.Context) error {
			var v string
			return q.QueryRow(ctx, "select v from bench where id = $1", id).Scan(&v)
		}}
	}
	write := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, ctx context.Context) side {
		return side{"pgxpool", func(context.Context) error {
			var id int64
			return q.QueryRow(ctx, "insert into bench (v) values ($1) returning id", "x").Scan(&id)
		}}
	}
	transaction := func(q interface {
		Begin(context.Context) (pgx.Tx, error)
	}, ctx context.Context) side {
		return side{"pgxpool", func(context.Context) error {
			return pgx.BeginFunc(ctx, q, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into bench (v) values ($1)", "x")
				return err
			})
		}}
	}
	for _, c := range []struct {
		name         string
		n            int
		ours, theirs side
		budget       float64
	}{
		{"QueryRow outside a session", 300, read(db, ctx), read(replicaPool, ctx), 1.02},
		{"QueryRow in a session", 300, read(db, session), read(replicaPool, ctx), 1.02},
		{"autocommit write with a token", 200, write(db, session), write(primaryPool, ctx), 1.3},
		{"transaction with a token", 100, transaction(db, session), transaction(primaryPool, ctx), 1.05},
	} {
		ours, theirs, ratio, err := compare(ctx, r.rounds, c.n, c.ours, c.theirs)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		r.add(result{Name: c.name, Ours: ours, Theirs: theirs, Against: c.theirs.name, Unit: "us", Ratio: ratio, Budget: c.budget})
	}
	for reason, n := range db.Stat().Decisions {
		fmt.Fprintf(r.progress, "decisions %s: %d\n", reason, n)
	}
	return nil
}
