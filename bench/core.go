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
	// One replica: each more competes with the servers that are measured.
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
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

// blocks is how often connections are made anew: which processor a server
// process sits on makes more difference than anything measured here.
const blocks = 10

// comparison is a call and the same one on a plain pool.
type comparison struct {
	name         string
	n            int // calls a round
	budget       float64
	ours, theirs func(context.Context) error
}

// calls compares calls with those of a plain pool on the same node.
func calls(ctx context.Context, r *report, cluster *lab.Cluster) error {
	if err := setup(ctx, cluster.Primary().DSN()); err != nil {
		return err
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := measure(ctx, r, cluster, reads); err != nil {
		return err
	}
	// In production replicas run on machines of their own. Here they would take
	// the processor from the primary right after each commit.
	if err := cluster.Replicas()[0].Stop(ctx); err != nil {
		return err
	}
	return measure(ctx, r, cluster, writes)
}

func measure(ctx context.Context, r *report, cluster *lab.Cluster, cases func(context.Context, pools) []comparison) error {
	var order []comparison
	found := map[string]*samples{}
	for block := range blocks {
		p, err := openPools(ctx, cluster)
		if err != nil {
			return err
		}
		order = cases(ctx, p)
		for _, c := range order {
			if found[c.name] == nil {
				found[c.name] = &samples{}
			}
			err := found[c.name].compare(ctx, max(1, r.rounds/blocks), c.n, side{"pgtide", c.ours}, side{"pgxpool", c.theirs})
			if err != nil {
				p.close()
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		p.close()
		fmt.Fprintf(r.progress, "calls: block %d of %d\n", block+1, blocks)
	}
	for _, c := range order {
		s := found[c.name]
		r.add(result{Name: c.name, Ours: median(s.ours), Theirs: median(s.theirs), Against: "pgxpool", Unit: "us", Ratio: median(s.ratios), Budget: c.budget})
	}
	return nil
}

func setup(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `create table bench (id bigint generated always as identity primary key, v text not null);
		insert into bench (v) values ('x')`)
	return err
}

// pools are the two sides of a comparison.
type pools struct {
	db               *pgtide.DB
	replica, primary *pgxpool.Pool
}

func openPools(ctx context.Context, cluster *lab.Cluster) (p pools, err error) {
	var o pgtide.Options
	for _, n := range cluster.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	if p.db, err = pgtide.Open(ctx, o); err != nil {
		return p, err
	}
	if p.replica, err = pgxpool.New(ctx, cluster.Replicas()[0].DSN()); err != nil {
		return p, err
	}
	p.primary, err = pgxpool.New(ctx, cluster.Primary().DSN())
	return p, err
}

func (p pools) close() {
	p.db.Close()
	p.replica.Close()
	p.primary.Close()
}

type querier interface {
	QueryRow(context.Context, string, ...any) pgx.Row
	Begin(context.Context) (pgx.Tx, error)
}

func reads(ctx context.Context, p pools) []comparison {
	read := func(q querier, ctx context.Context) func(context.Context) error {
		return func(context.Context) error {
			var v string
			return q.QueryRow(ctx, "select v from bench where id = $1", 1).Scan(&v)
		}
	}
	return []comparison{
		{"QueryRow outside a session", 300, 1.02, read(p.db, ctx), read(p.replica, ctx)},
		{"QueryRow in a session", 300, 1.02, read(p.db, pgtide.NewSession(ctx)), read(p.replica, ctx)},
	}
}

func writes(ctx context.Context, p pools) []comparison {
	session := pgtide.NewSession(ctx)
	write := func(q querier, ctx context.Context) func(context.Context) error {
		return func(context.Context) error {
			var id int64
			return q.QueryRow(ctx, "insert into bench (v) values ($1) returning id", "x").Scan(&id)
		}
	}
	transaction := func(q querier, ctx context.Context) func(context.Context) error {
		return func(context.Context) error {
			return pgx.BeginFunc(ctx, q, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into bench (v) values ($1)", "x")
				return err
			})
		}
	}
	return []comparison{
		{"autocommit write with a token", 200, 1.3, write(p.db, session), write(p.primary, ctx)},
		{"transaction with a token", 100, 1.05, transaction(p.db, session), transaction(p.primary, ctx)},
		// What this machine makes of no difference at all.
		{"control: a pgxpool transaction", 100, 1.05, transaction(p.primary, ctx), transaction(p.primary, ctx)},
	}
}
