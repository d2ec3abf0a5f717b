package pgtidesql_test

import (
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidesql"
)

func TestRetryTx(t *testing.T) {
	_, db := open(t)
	var id int64
	if err := db.QueryRowContext(t.Context(), "insert into message (text) values ('') returning id").Scan(&id); err != nil {
		t.Fatal(err)
	}
	const workers = 6
	o := &sql.TxOptions{Isolation: sql.LevelRepeatableRead}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			err := pgtidesql.RetryTx(t.Context(), db, o, pgtide.Retry{Attempts: 200}, func(tx *sql.Tx) error {
				var text string
				if err := tx.QueryRowContext(t.Context(), "select text from message where id = $1", id).Scan(&text); err != nil {
					return err
				}
				_, err := tx.ExecContext(t.Context(), "update message set text = $1 where id = $2", text+"x", id)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var text string
	if err := db.QueryRowContext(t.Context(), "select text from message where id = $1", id).Scan(&text); err != nil || len(text) != workers {
		t.Errorf("%d transactions left %q (%v)", workers, text, err)
	}

	stop := errors.New("stop")
	err := pgtidesql.RetryTx(t.Context(), db, nil, pgtide.Retry{}, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "delete from message where id = $1", id); err != nil {
			return err
		}
		return stop
	})
	if err != stop {
		t.Errorf("the function's error came back as %v", err)
	}
	if err := db.QueryRowContext(t.Context(), "select text from message where id = $1", id).Scan(&text); err != nil {
		t.Errorf("after the rollback: %v", err)
	}
}

func TestDSNWithParameters(t *testing.T) {
	dsn := "pgtide" + paused.Primary().DSN()[len("postgres"):] + "&pgtide_consistency=strong"
	db, err := sql.Open("pgtide", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := pgtide.NewSession(t.Context())
	if err := db.QueryRowContext(ctx, "select 1").Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	if d := last(t, ctx); d.Reason != pgtide.ReasonStrong {
		t.Errorf("a read with pgtide_consistency=strong: %v", d)
	}
}
