package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestBatchOfReads(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	b := &pgx.Batch{}
	b.Queue("select 1")
	b.Queue("select n from generate_series(1, 3) n")
	b.Queue("select 'x'")
	r := db.SendBatch(ctx, b)
	if _, err := r.Exec(); err != nil {
		t.Fatal(err)
	}
	rows, err := r.Query()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(ns) != 3 {
		t.Errorf("second statement gave %v, %v", ns, err)
	}
	var x string
	if err := r.QueryRow().Scan(&x); err != nil || x != "x" {
		t.Errorf("third statement gave %q, %v", x, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Exec(); err == nil {
		t.Error("Exec after Close gave no error")
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica || len(pgtide.Explain(ctx)) != 1 {
		t.Errorf("decisions %v, want one for a replica", pgtide.Explain(ctx))
	}
}

func TestBatchThatAReplicaRefuses(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{MaxStaleness: -1}) // other tests write all the time
	for name, read := range map[string]func(*pgx.Batch, pgx.BatchResults) (int64, error){
		"QueryRow": func(_ *pgx.Batch, r pgx.BatchResults) (id int64, err error) {
			err = errors.Join(r.QueryRow().Scan(&id), r.Close())
			return id, err
		},
		"Query": func(_ *pgx.Batch, r pgx.BatchResults) (int64, error) {
			rows, err := r.Query()
			if err != nil {
				return 0, err
			}
			id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
			return id, errors.Join(err, r.Close())
		},
		"callback": func(b *pgx.Batch, r pgx.BatchResults) (int64, error) {
			return 1, r.Close()
		},
	} {
		ctx := pgtide.NewSession(t.Context())
		b := &pgx.Batch{}
		called := 0
		text := fmt.Sprint(name, time.Now().UnixNano())
		q := b.Queue("select write_message($1) -- "+name, text) // a text is refused but once
		if name == "callback" {
			q.QueryRow(func(row pgx.Row) error {
				called++
				var id int64
				return row.Scan(&id)
			})
		}
		b.Queue("select 2")
		if _, err := read(b, db.SendBatch(ctx, b)); err != nil {
			t.Errorf("%s: %v; decisions %v", name, err, pgtide.Explain(ctx))
		}
		if name == "callback" && called != 1 {
			t.Errorf("the callback was called %d times, want once", called)
		}
		var n int
		if err := db.QueryRow(ctx, "select count(*) from message where text = $1", text).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: the function ran %d times, want once (%v)", name, n, err)
		}
	}
}

func TestBatchThatCannotBeginItsTransaction(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{})
	r := db.SendBatch(ended, b)
	if err := r.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v, want the context's error", err)
	}
	if tx := r.Tx(); tx == nil {
		t.Error("Tx is nil: a deferred Rollback would panic")
	} else if err := tx.Rollback(t.Context()); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("Rollback: %v, want ErrTxClosed", err)
	}
}

func TestBatchErrors(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	b := &pgx.Batch{}
	b.Queue("insert into pair values ('same', '1')")
	b.Queue("insert into pair values ('same', '2')")
	err := db.SendBatch(ctx, b).Close()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "23505" {
		t.Errorf("batch with a duplicate key: %v, want 23505", err)
	}
	var n int
	if err := db.QueryRow(ctx, "select count(*) from pair").Scan(&n); err != nil || n != 0 {
		t.Errorf("a batch that did not succeed left %d rows (%v)", n, err)
	}
	failure := errors.New("callback says no")
	b = &pgx.Batch{}
	b.Queue("select 1").QueryRow(func(pgx.Row) error { return failure })
	if err := db.SendBatch(ctx, b).Close(); !errors.Is(err, failure) {
		t.Errorf("batch with a callback that returns an error: %v, want that error", err)
	}
	if err := db.SendBatch(ctx, &pgx.Batch{}).Close(); err != nil {
		t.Errorf("empty batch: %v", err)
	}
	for _, n := range db.Stat().Nodes {
		if n.Pool.AcquiredConns() != 0 {
			t.Errorf("node %s: %d connections are still taken", n.Name, n.Pool.AcquiredConns())
		}
	}
}

func TestBatchWhoseTransactionEndsBeforeIt(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{})
	b.Queue("select 1")
	r := db.SendBatch(t.Context(), b)
	// pgx forbids this order, and survives it.
	_ = r.Tx().Rollback(t.Context())
	_ = r.Close()
	if _, err := db.Exec(t.Context(), "select 1"); err != nil {
		t.Error(err)
	}
}

// TestBatchWithAFunctionThatWrites has one behind a read, whose result is handed
// out before a standby could refuse it.
func TestBatchWithAFunctionThatWrites(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	b := &pgx.Batch{}
	b.Queue("select 1").QueryRow(func(row pgx.Row) error { return row.Scan(new(int)) })
	b.Queue("select write_message('behind a read')").QueryRow(func(row pgx.Row) error { return row.Scan(new(int64)) })
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary || d.Attempt != 1 {
		t.Errorf("%v, want the primary at once", d)
	}
	if _, ok := pgtide.TokenFrom(ctx); !ok {
		t.Error("the session has no token")
	}

	// In front, a standby is asked once.
	for i, want := range []int{2, 1} {
		b := &pgx.Batch{}
		b.Queue("select write_message('in front')")
		if err := db.SendBatch(ctx, b).Close(); err != nil {
			t.Error(err)
		}
		if d := last(t, ctx); d.Role != pgtide.RolePrimary || d.Attempt > want {
			t.Errorf("batch %d: %v, want the primary at attempt %d", i, d, want)
		}
	}
}

// TestRefusedAfterARow has a statement that a standby refuses too late to run it
// elsewhere. It does so once.
func TestRefusedAfterARow(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{MaxStaleness: -1}) // other tests write all the time
	run := func() (pgtide.Decision, error) {
		ctx := pgtide.NewSession(t.Context())
		rows, _ := db.Query(ctx, "select case when n > 1 then write_message('late') end from generate_series(1, 2) n")
		_, err := pgx.CollectRows(rows, pgx.RowTo[*int64])
		return last(t, ctx), err
	}
	var pg *pgconn.PgError
	if d, err := run(); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("%v: error %v, want 25006 of a standby that has shown a row", d, err)
	}
	if d, err := run(); err != nil || d.Role != pgtide.RolePrimary {
		t.Errorf("the second time: %v, %v, want the primary", d, err)
	}
}

// TestCommitOfABatchsTransactionIsSeen commits, on a connection that is still held,
// a transaction that a batch has begun.
func TestCommitOfABatchsTransactionIsSeen(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db, ctx := open(t, c, pgtide.Options{}), pgtide.NewSession(t.Context())
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{})
	b.Queue("insert into message (text) values ('batch')")
	r := conn.SendBatch(ctx, b)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	token, err := db.CurrentToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.WaitFor(ctx, token); err != nil {
		t.Fatal(err)
	}
	read := func() (n int) {
		if err := db.QueryRow(ctx, "select count(*) from message").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "a replica that has what was written so far", func() bool { read(); return last(t, ctx).Role == pgtide.RoleReplica })
	pause(t, c) // now any read that a replica serves misses the row
	if err := r.Tx().Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 1 {
		t.Errorf("the read after the commit found %d rows, want 1: %v", n, last(t, ctx))
	}
}
