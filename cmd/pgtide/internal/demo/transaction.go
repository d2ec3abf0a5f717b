package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

const selectText = "select text from message where id = $1"

// find reads one row and says who served the read.
func find(ctx context.Context, store service.Store, id string) (found bool, by pgtide.Decision, err error) {
	ctx, witness := withWitness(ctx)
	var text string
	err = store.QueryRow(ctx, selectText, id).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, witness.decision(), nil
	}
	return err == nil, witness.decision(), err
}

// findNaively reads one row as often as there are replicas, so that it asks
// each of them.
func (d *Demo) findNaively(ctx context.Context, id string) (misses int, told string, err error) {
	var answers []string
	for range d.naive.Load().replicas {
		found, by, err := find(ctx, d.naive.Load(), id)
		if err != nil {
			return 0, "", fmt.Errorf("read from %s: %w", by.Node, err)
		}
		answer := "has it"
		if !found {
			misses++
			answer = "does not have it"
		}
		answers = append(answers, by.Node+" "+answer)
	}
	return misses, strings.Join(answers, ", "), nil
}

// tellTransaction tells of one row: in its transaction, and after the commit.
func (d *Demo) tellTransaction(ctx context.Context) error {
	ctx = pgtide.NewSession(ctx)
	d.story.title("1. A row is written in a transaction")
	tx, err := d.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var id string
	if err := tx.QueryRow(ctx, "insert into message (text) values ('hello') returning id::text").Scan(&id); err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	misses, told, err := d.findNaively(ctx, id)
	if err != nil {
		return err
	}
	d.story.expect("transaction_replicas", "the replicas do not have it yet", misses == len(d.naive.Load().replicas), "%s", told)
	var text string
	err = tx.QueryRow(ctx, selectText, id).Scan(&text)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read in the transaction: %w", err)
	}
	got := fmt.Sprintf("it reads %q", text)
	if err != nil {
		got = "it finds no such row"
	}
	d.story.expect("transaction_itself", "the transaction sees its own row", err == nil, "%s", got)

	d.story.title("2. The transaction is committed")
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed := time.Now()
	misses, told, err = d.findNaively(ctx, id)
	if err != nil {
		return err
	}
	asked := time.Since(committed)
	d.story.expect("commit_naive", "a naive router, which reads from the replicas in turn, misses it",
		misses > 0, "%s: %d of %d reads missed the row, within %s of the commit", told, misses, len(d.naive.Load().replicas), millis(asked))

	found, by, err := find(ctx, d.db, id)
	if err != nil {
		return fmt.Errorf("read through pgtide: %w", err)
	}
	got = "found"
	if !found {
		got = "not found"
	}
	d.story.expect("commit_pgtide", "pgtide finds it", found, "%s, by %s", got, by)
	return d.tellLate(ctx, id, committed)
}

// tellLate waits until the slow replica has what the session of ctx wrote, and
// looks.
func (d *Demo) tellLate(ctx context.Context, id string, committed time.Time) error {
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		return errors.New("the session that wrote has no token")
	}
	if err := d.db.WaitFor(ctx, token); err != nil {
		return fmt.Errorf("wait for %s: %w", d.slow.Name(), err)
	}
	late := time.Since(committed)
	asItIs := pgtide.OnNode(pgtide.WithConsistency(ctx, pgtide.Eventual), d.slow.Name())
	found, _, err := find(asItIs, d.db, id)
	if err != nil {
		return fmt.Errorf("read from %s: %w", d.slow.Name(), err)
	}
	got := "it has the row"
	if !found {
		got = "it does not have the row"
	}
	// Less a little: the server counts from the commit, not from its answer.
	d.story.expect("slow_replica", fmt.Sprintf("%s has it %s after the commit", d.slow.Name(), seconds(d.options.Delay)),
		found && late >= d.options.Delay-d.options.Delay/20, "%s after %s", got, seconds(late))
	return nil
}
