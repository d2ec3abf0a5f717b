package river_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/lab"
)

const schema = `
	create table note (id bigint generated always as identity primary key, text text not null);
	insert into note (text) values ('seed');
	create table visited (job bigint primary key, note bigint not null)`

// open opens a cluster as a process of its own does.
func open(t *testing.T, c *lab.Cluster) *pgtide.DB {
	t.Helper()
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func primaryPool(t *testing.T, db *pgtide.DB) *pgxpool.Pool {
	t.Helper()
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func migrate(t *testing.T, db *pgtide.DB) {
	t.Helper()
	migrator, err := rivermigrate.New(riverpgxv5.New(primaryPool(t, db)), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	result, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Versions) == 0 {
		t.Error("no migration was run")
	}
}

// start starts a client that works the jobs of a queue until the test ends.
func start(t *testing.T, db *pgtide.DB, queue string, poll time.Duration) (*river.Client[pgx.Tx], *noteWorker) {
	t.Helper()
	worker := &noteWorker{db: db, visits: make(chan visit, 1000), held: make(chan chan struct{}, 1)}
	workers := river.NewWorkers()
	river.AddWorker(workers, worker)
	client, err := river.NewClient(riverpgxv5.New(primaryPool(t, db)), &river.Config{
		FetchPollInterval: poll,
		FetchCooldown:     10 * time.Millisecond,
		Logger:            slog.New(slog.DiscardHandler),
		Queues:            map[string]river.QueueConfig{queue: {MaxWorkers: 4}},
		Workers:           workers,
	})
	if err != nil {
		t.Fatal(err)
	}
	running := context.WithoutCancel(t.Context()) // Stop ends it, in good order
	if err := client.Start(running); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(running, 20*time.Second)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return client, worker
}

// newAdder returns a client that adds jobs in transactions, and does no more.
func newAdder(t *testing.T) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// next waits for the worker's next job.
func (w *noteWorker) next(t *testing.T) visit {
	t.Helper()
	select {
	case v := <-w.visits:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("no job was worked within 20 s")
		return visit{}
	}
}

// The process that adds jobs and the one that works them share the cluster and
// nothing else.
func TestRiver(t *testing.T) {
	c := paused.New(t, schema)
	var text string
	if err := c.DB.QueryRow(t.Context(), `select text from note`).Scan(&text); err != nil || text != "seed" || c.ReplicaReads() != 1 {
		t.Fatalf("the seeded note is %q, %v, by %d replicas", text, err, c.ReplicaReads())
	}
	migrate(t, c.DB)
	c.OnReplica(t, `select * from river_job`)

	db := open(t, c.Cluster)
	client, worker := start(t, db, river.QueueDefault, 100*time.Millisecond)
	adder := newAdder(t)

	t.Run("a job is added in the transaction that it is about", func(t *testing.T) {
		for _, commit := range []bool{false, true} {
			note := addInTx(t, c.DB, adder, noteArgs{See: asItIs}, commit)
			if !commit {
				if _, err := client.JobGet(t.Context(), note.job); !errors.Is(err, rivertype.ErrNotFound) {
					t.Errorf("JobGet of a job that was rolled back returns %v, want that there is none", err)
				}
				continue
			}
			if v := worker.next(t); v.note != note.id || !v.found {
				t.Errorf("the worker visits %+v, want note %d found", v, note.id)
			}
			c.OnReplica(t, `select * from note where id = $1`, note.id)
		}
	})

	t.Run("a job sees what is committed by now", func(t *testing.T) {
		note := addInTx(t, c.DB, adder, noteArgs{See: byCurrent}, true)
		if v := worker.next(t); v.note != note.id || !v.found {
			t.Errorf("the worker visits %+v, want note %d found", v, note.id)
		}
	})

	t.Run("a job sees what its arguments' token stands for", func(t *testing.T) {
		args := addNote(t, c.DB, "for a worker")
		if _, err := client.Insert(t.Context(), args, nil); err != nil {
			t.Fatal(err)
		}
		v := worker.next(t)
		if v.note != args.Note || !v.found || len(v.at) != 1 || v.at[0].Role != pgtide.RolePrimary {
			t.Errorf("the worker visits %+v, want note %d found at the primary", v, args.Note)
		}

		// The control: another session does not have to see it, and does not.
		args.Token, args.See = pgtide.Token{}, nothing
		if _, err := client.Insert(t.Context(), args, nil); err != nil {
			t.Fatal(err)
		}
		v = worker.next(t)
		if v.found || len(v.at) != 1 || v.at[0].Role != pgtide.RoleReplica {
			t.Errorf("without the token the worker visits %+v, want nothing found on a replica", v)
		}
	})

	t.Run("what is written through the pool is seen by later reads", func(t *testing.T) {
		const query = `select kind from river_job where id = $1`
		for _, ctx := range []context.Context{t.Context(), pgtide.NewSession(t.Context())} {
			result, err := client.Insert(ctx, noteArgs{Note: 1}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var kind string
			if err := db.QueryRow(ctx, query, result.Job.ID).Scan(&kind); err != nil || kind != "note" {
				t.Errorf("the job is a %q, %v, want a note", kind, err)
			}
			c.OnReplica(t, query, result.Job.ID)
			worker.next(t)
		}
	})

	t.Run("LISTEN and NOTIFY wake a worker", func(t *testing.T) {
		const queue = "urgent"
		_, worker := start(t, db, queue, time.Hour)
		// It looks for jobs when it starts. It has no other reason to see the second.
		for note := range int64(2) {
			adder := newAdder(t) // which does not notify twice within a short time
			err := pgx.BeginFunc(t.Context(), c.DB, func(tx pgx.Tx) error {
				_, err := adder.InsertTx(t.Context(), tx, noteArgs{Note: note}, &river.InsertOpts{Queue: queue})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if v := worker.next(t); v.note != note {
				t.Errorf("the worker visits note %d, want %d", v.note, note)
			}
		}
	})

	t.Run("unique jobs", func(t *testing.T) {
		args := noteArgs{Note: 1, See: asItIs}
		unique := &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}}
		for i, wantSkipped := range []bool{false, true} {
			result, err := client.Insert(t.Context(), args, unique)
			if err != nil {
				t.Fatal(err)
			}
			if result.UniqueSkippedAsDuplicate != wantSkipped {
				t.Errorf("insert %d is skipped: %v, want %v", i, result.UniqueSkippedAsDuplicate, wantSkipped)
			}
		}
		worker.next(t)
	})

	t.Run("many jobs at once, each done once", func(t *testing.T) {
		var before int
		if err := c.DB.QueryRow(pgtide.OnPrimary(t.Context()), `select count(*) from visited`).Scan(&before); err != nil {
			t.Fatal(err)
		}
		const jobs = 100
		batch := make([]river.InsertManyParams, jobs)
		for i := range batch {
			batch[i].Args = noteArgs{Note: int64(1000 + i)}
		}
		if n, err := client.InsertManyFast(t.Context(), batch); err != nil || n != jobs {
			t.Fatalf("inserted %d jobs, %v", n, err)
		}
		seen := map[int64]int{}
		for range jobs {
			seen[worker.next(t).note]++
		}
		if len(seen) != jobs {
			t.Errorf("visited %d notes in %d jobs", len(seen), jobs)
		}
		completed, err := client.JobList(t.Context(), river.NewJobListParams().First(1000).States(rivertype.JobStateCompleted))
		if err != nil {
			t.Fatal(err)
		}
		var after int
		if err := c.DB.QueryRow(pgtide.OnPrimary(t.Context()), `select count(*) from visited`).Scan(&after); err != nil {
			t.Fatal(err)
		}
		if after-before != jobs || len(completed.Jobs) != after {
			t.Errorf("%d visits of %d jobs; %d jobs completed, %d visits in all", after-before, jobs, len(completed.Jobs), after)
		}
	})

	t.Run("a job reads on a replica that has what it must see", func(t *testing.T) {
		c.Replay(t)
		args := addNote(t, c.DB, "for a replica")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := db.WaitFor(ctx, args.Token); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Insert(ctx, args, nil); err != nil {
			t.Fatal(err)
		}
		v := worker.next(t)
		if v.note != args.Note || !v.found || len(v.at) != 1 || v.at[0].Role != pgtide.RoleReplica {
			t.Errorf("the worker visits %+v, want note %d found on a replica", v, args.Note)
		}
	})
}
