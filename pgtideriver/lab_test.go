package pgtideriver_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtideriver"
)

// cluster is a primary with two replicas that replay nothing, until they are
// told to: whoever reads a note of the test there, reads stale.
type cluster struct{ *lab.Cluster }

func startCluster(t *testing.T) cluster {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	p := startProcess(t, cluster{c})
	if _, err := p.db.Exec(t.Context(), "create table note (text text)"); err != nil {
		t.Fatal(err)
	}
	pool, err := p.db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil); err != nil {
		t.Fatal(err)
	}
	cluster{c}.catchUp(t)
	return cluster{c}
}

// catchUp gives the replicas what there is, and no more.
func (c cluster) catchUp(t *testing.T) {
	t.Helper()
	c.resume(t)
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (c cluster) resume(t *testing.T) {
	t.Helper()
	for _, r := range c.Replicas() {
		if err := r.ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// process is a program that adds jobs or works them: it shares the cluster with
// the others, and nothing else.
type process struct{ db *pgtide.DB }

func startProcess(t *testing.T, c cluster) process {
	t.Helper()
	// Replicas are to be avoided for what they lack, not for their age.
	db, err := pgtide.Open(t.Context(), pgtide.Options{DSN: c.DSN(), MaxStaleness: -1, WaitBudget: -1, SpillLimit: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return process{db}
}

// adder returns a client that adds jobs.
func (p process) adder(t *testing.T) *river.Client[pgx.Tx] {
	t.Helper()
	return p.client(t, &river.Config{Middleware: []rivertype.Middleware{pgtideriver.New(p.db, pgtideriver.Options{})}})
}

func (p process) client(t *testing.T, config *river.Config) *river.Client[pgx.Tx] {
	t.Helper()
	pool, err := p.db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = slog.New(slog.DiscardHandler)
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// write writes a note.
func (p process) write(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	if _, err := p.db.Exec(ctx, "insert into note values ($1)", text); err != nil {
		t.Fatal(err)
	}
}

// lookArgs are of a job that looks for a note.
type lookArgs struct {
	Note string `json:"note" river:"unique"`
	// Once is what it does after its first look: write the note again, and then
	// "fail", "snooze" or be interrupted: "stop".
	Once string `json:"once"`
}

// Kind implements [river.JobArgs].
func (lookArgs) Kind() string { return "look" }

// look is what an attempt found.
type look struct {
	notes, attempt int
	at             pgtide.Role
}

type worker struct {
	river.WorkerDefaults[lookArgs]
	db     *pgtide.DB
	looks  chan look
	events <-chan *river.Event
	once   bool
	// stop ends the program as Config.SoftStopTimeout has it, and working says
	// that an attempt waits for that.
	stop    func()
	working chan struct{}
}

// NextRetry implements [river.Worker]: at once.
func (w *worker) NextRetry(*river.Job[lookArgs]) time.Time { return time.Now() }

var errOnce = errors.New("as told")

// Work implements [river.Worker].
func (w *worker) Work(ctx context.Context, job *river.Job[lookArgs]) error {
	if !pgtide.HasSession(ctx) {
		ctx = pgtide.NewSession(ctx) // as a worker may do by itself
	}
	l := look{attempt: job.Attempt}
	if err := w.db.QueryRow(ctx, "select count(*) from note where text = $1", job.Args.Note).Scan(&l.notes); err != nil {
		return err
	}
	for _, d := range pgtide.Explain(ctx) {
		l.at = d.Role
	}
	defer func() { w.looks <- l }()
	if job.Args.Once == "" || w.once || l.notes > 1 {
		return nil
	}
	w.once = true
	if _, err := w.db.Exec(ctx, "insert into note values ($1)", job.Args.Note); err != nil {
		return err
	}
	switch job.Args.Once {
	case "snooze":
		return river.JobSnooze(0)
	case "stop":
		close(w.working)
		<-ctx.Done()
		return ctx.Err()
	}
	return errOnce
}

// work starts a program that works the jobs of a queue of this test's until it
// ends, with the middleware if there are options.
func work(t *testing.T, c cluster, o *pgtideriver.Options) *worker {
	t.Helper()
	p := startProcess(t, c)
	w := &worker{db: p.db, looks: make(chan look, 100), working: make(chan struct{})}
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	config := &river.Config{
		FetchPollInterval: 100 * time.Millisecond,
		FetchCooldown:     10 * time.Millisecond,
		Queues:            map[string]river.QueueConfig{queue(t): {MaxWorkers: 1}},
		Workers:           workers,
		SoftStopTimeout:   time.Millisecond,
		TestOnly:          true,
	}
	if o != nil {
		config.Middleware = []rivertype.Middleware{pgtideriver.New(p.db, *o)}
	}
	client := p.client(t, config)
	events, cancel := client.Subscribe(river.EventKindJobSnoozed)
	t.Cleanup(cancel)
	w.events = events
	running := context.WithoutCancel(t.Context()) // Stop ends it, in good order
	if err := client.Start(running); err != nil {
		t.Fatal(err)
	}
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(running, 20*time.Second)
		defer cancel()
		if err := client.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// next waits for the next attempt.
func (w *worker) next(t *testing.T) look {
	t.Helper()
	select {
	case l := <-w.looks:
		return l
	case <-time.After(20 * time.Second):
		t.Fatal("no job was worked within 20 s")
		return look{}
	}
}

func (w *worker) expect(t *testing.T, want look) {
	t.Helper()
	if got := w.next(t); got != want {
		t.Errorf("the job finds %+v, want %+v", got, want)
	}
}

// snoozed waits until the job has been snoozed.
func (w *worker) snoozed(t *testing.T) {
	t.Helper()
	select {
	case <-w.events:
	case l := <-w.looks:
		t.Fatalf("the job is worked and finds %+v, want it snoozed", l)
	case <-time.After(20 * time.Second):
		t.Fatal("no job was snoozed within 20 s")
	}
}
