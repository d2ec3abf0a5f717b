package pgtide_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestTransactionStaysOnItsNode(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		id := insert(t, ctx, tx, "uncommitted")
		read(t, ctx, tx, id)
		if d := last(t, ctx); d.Reason != pgtide.ReasonPinned || d.Role != pgtide.RolePrimary {
			t.Errorf("read in a read-write transaction: %v, want it pinned to the primary", d)
		}
		var n int
		if err := db.QueryRow(pgtide.OnNode(t.Context(), c.Replicas()[0].Name()), "select count(*) from message where id = $1", id).Scan(&n); err != nil || n != 0 {
			t.Errorf("another connection sees %d uncommitted rows (%v)", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhereTransactionsBegin(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	session := pgtide.NewSession(t.Context())
	for _, test := range []struct {
		name string
		ctx  context.Context
		o    pgx.TxOptions
		role pgtide.Role
	}{
		{"default", session, pgx.TxOptions{}, pgtide.RolePrimary},
		{"read write", session, pgx.TxOptions{AccessMode: pgx.ReadWrite}, pgtide.RolePrimary},
		{"read only", session, pgx.TxOptions{AccessMode: pgx.ReadOnly}, pgtide.RoleReplica},
		{"repeatable read, read only", session, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, pgtide.RoleReplica},
		{"serializable, read only", session, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}, pgtide.RolePrimary},
		{"default, on a replica", pgtide.OnReplica(session), pgx.TxOptions{}, pgtide.RoleReplica},
		{"read write, on a replica", pgtide.OnReplica(session), pgx.TxOptions{AccessMode: pgx.ReadWrite}, pgtide.RolePrimary},
		{"read only, on the primary", pgtide.OnPrimary(session), pgx.TxOptions{AccessMode: pgx.ReadOnly}, pgtide.RolePrimary},
	} {
		tx, err := db.BeginTx(test.ctx, test.o)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if d := last(t, session); d.Role != test.role {
			t.Errorf("%s: began at %v, want the %s", test.name, d, test.role)
		}
		var one int
		if err := tx.QueryRow(test.ctx, "select 1").Scan(&one); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := tx.Commit(test.ctx); err != nil {
			t.Errorf("%s: commit: %v", test.name, err)
		}
		if err := tx.Commit(test.ctx); !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("%s: second commit: %v, want ErrTxClosed", test.name, err)
		}
	}
}

func TestWriteInAReadOnlyTransactionIsTheServersError(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	tx, err := db.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), "insert into message (text) values ('x')")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("write in a read-only transaction: %v, want 25006", err)
	}
	if err := tx.Commit(t.Context()); !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("commit after an error: %v, want ErrTxCommitRollback", err)
	}
}

func TestSavepointsAndRollback(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	tx, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	kept := insert(t, ctx, tx, "kept")
	inner, err := tx.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dropped := insert(t, ctx, inner, "dropped")
	if err := inner.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	read(t, ctx, db, kept)
	var text string
	if err := db.QueryRow(ctx, "select text from message where id = $1", dropped).Scan(&text); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("a row written after the savepoint: %v, want ErrNoRows", err)
	}
}

func TestSetTransactionAfterBegin(t *testing.T) {
	t.Parallel()
	// SET TRANSACTION must be a transaction's first statement: nothing that
	// pgtide does may slip a query in before it.
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	tx, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "set transaction isolation level serializable"); err != nil {
		t.Fatal(err)
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, sql := range []string{"begin", "set transaction isolation level serializable", "commit"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Errorf("%s on an acquired connection: %v", sql, err)
		}
	}
}

type explosive struct{}

func (explosive) Value() (driver.Value, error) { panic("an argument that panics") }

func TestConnectionsComeBackAfterAPanic(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	for name, call := range map[string]func(ctx context.Context){
		"Exec":     func(ctx context.Context) { db.Exec(ctx, "select $1::text", explosive{}) },
		"Query":    func(ctx context.Context) { db.Query(ctx, "select $1::text", explosive{}) },
		"QueryRow": func(ctx context.Context) { db.QueryRow(ctx, "select $1::text", explosive{}) },
	} {
		for _, ctx := range []context.Context{t.Context(), pgtide.OnPrimary(pgtide.NewSession(t.Context()))} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s did not panic", name)
					}
				}()
				call(ctx)
			}()
		}
		for _, n := range db.Stat().Nodes {
			if n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
				t.Fatalf("node %s: %d calls in flight and %d connections taken after %s panicked", n.Name, n.InFlight, n.Pool.AcquiredConns(), name)
			}
		}
	}
}

type picky struct{}

var errPicky = errors.New("not this row")

func (picky) ScanRow(pgx.Rows) error { return errPicky }

func TestErrKeepsTheErrorOfARowScanner(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	rows, err := db.Query(t.Context(), "select generate_series(1, 3)")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		_ = rows.Scan(picky{}) // pgx keeps it for Err
	}
	if err := rows.Err(); !errors.Is(err, errPicky) {
		t.Errorf("Err after a Scan that failed: %v, want its error", err)
	}
}

func TestConnectionsComeBack(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	for range 20 {
		rows, err := db.Query(ctx, "select generate_series(1, 10)")
		if err != nil {
			t.Fatal(err)
		}
		rows.Next()
		rows.Close()
		rows.Close()
		if rows.Next() {
			t.Error("Next after Close is true")
		}
		if _, err := db.Exec(ctx, "select 1/0"); err == nil {
			t.Error("division by zero gave no error")
		}
		if _, err := db.Exec(ctx, "insert into pair values ('a')"); err == nil {
			t.Error("a missing column gave no error")
		}
		var i int
		if err := db.QueryRow(ctx, "select 'x'").Scan(&i); err == nil {
			t.Error("scanning text into an int gave no error")
		}
		if _, err := db.Exec(ctx, "select $1::int", "x"); err == nil {
			t.Error("an argument that cannot be encoded gave no error")
		}
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := db.Exec(canceled, "select 1"); !errors.Is(err, context.Canceled) {
			t.Errorf("call with a cancelled context: %v", err)
		}
	}
	for _, n := range db.Stat().Nodes {
		if n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
			t.Errorf("node %s: %d calls in flight and %d connections taken after all calls returned", n.Name, n.InFlight, n.Pool.AcquiredConns())
		}
	}
	if n := db.Stat().Retries; n != 0 {
		t.Errorf("%d retries of errors that were the caller's", n)
	}
}
