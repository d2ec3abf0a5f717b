package river_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/pgtide/pgtide"
)

// noteArgs are the arguments of a job that does something with a note.
type noteArgs struct {
	Note  int64        `json:"note"`
	Token pgtide.Token `json:"token"` // what the job must see at least
	See   see          `json:"see"`
	Hold  bool         `json:"hold"` // wait in the middle of it
}

// Kind implements [river.JobArgs].
func (noteArgs) Kind() string { return "note" }

// see is how a job says what it must see. A worker of your own knows.
type see string

const (
	asItIs    see = ""
	byToken   see = "token"   // what its arguments say
	byCurrent see = "current" // what is committed by now
	nothing   see = "nothing" // a session of its own: the control
)

// visit is what a job found.
type visit struct {
	note  int64
	found bool
	at    []pgtide.Decision // none outside a session
}

// noteWorker looks for a note and completes its job together with a row of its
// own, so that the row is written exactly once.
type noteWorker struct {
	river.WorkerDefaults[noteArgs]
	db     *pgtide.DB
	visits chan visit
	held   chan chan struct{} // by whoever waits in a job; closing it ends the wait
}

// Work implements [river.Worker].
func (w *noteWorker) Work(ctx context.Context, job *river.Job[noteArgs]) error {
	switch job.Args.See {
	case byToken:
		ctx = pgtide.WithToken(ctx, job.Args.Token)
	case byCurrent:
		token, err := w.db.CurrentToken(ctx)
		if err != nil {
			return fmt.Errorf("ask for the current token: %w", err)
		}
		ctx = pgtide.WithToken(ctx, token)
	case nothing:
		ctx = pgtide.NewSession(ctx)
	}
	v := visit{note: job.Args.Note}
	if err := w.db.QueryRow(ctx, `select exists (select from note where id = $1)`, v.note).Scan(&v.found); err != nil {
		return fmt.Errorf("look for note %d: %w", v.note, err)
	}
	v.at = pgtide.Explain(ctx)
	if job.Args.Hold {
		goOn := make(chan struct{})
		w.held <- goOn
		<-goOn
	}

	tx, err := w.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `insert into visited (job, note) values ($1, $2)`, job.ID, v.note); err != nil {
		return fmt.Errorf("note the visit of job %d: %w", job.ID, err)
	}
	if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
		return fmt.Errorf("complete job %d: %w", job.ID, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit job %d: %w", job.ID, err)
	}
	w.visits <- v
	return nil
}

// addNote writes a note in a session and returns the arguments of a job about
// it, with the session's token.
func addNote(t *testing.T, db *pgtide.DB, text string) noteArgs {
	t.Helper()
	ctx := pgtide.NewSession(t.Context())
	args := noteArgs{See: byToken}
	if err := db.QueryRow(ctx, `insert into note (text) values ($1) returning id`, text).Scan(&args.Note); err != nil {
		t.Fatal(err)
	}
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		t.Fatal("a session that wrote has no token")
	}
	args.Token = token
	return args
}

type added struct{ id, job int64 }

// addInTx writes a note and adds a job about it in one transaction.
func addInTx(t *testing.T, db *pgtide.DB, client *river.Client[pgx.Tx], args noteArgs, commit bool) (a added) {
	t.Helper()
	ctx := t.Context()
	tx, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if err := tx.QueryRow(ctx, `insert into note (text) values ('in a transaction') returning id`).Scan(&args.Note); err != nil {
		t.Fatal(err)
	}
	result, err := client.InsertTx(ctx, tx, args, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.JobGetTx(ctx, tx, result.Job.ID); err != nil {
		t.Errorf("the transaction does not see its job: %v", err)
	}
	if commit {
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return added{args.Note, result.Job.ID}
}
