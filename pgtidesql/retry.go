package pgtidesql

import (
	"context"
	"database/sql"

	"github.com/pgtide/pgtide"
)

// RetryTx runs f in a transaction of db, commits it if f returns nil, rolls it
// back otherwise, and runs it again as r says. So f must be fit to be run more
// than once: what it does beside the transaction is not undone. It returns the
// errors of f and of the commit. db may be any *sql.DB over pgx.
func RetryTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, r pgtide.Retry, f func(*sql.Tx) error) error {
	return r.Do(ctx, func() error {
		tx, err := db.BeginTx(ctx, o)
		if err != nil {
			return err
		}
		defer tx.Rollback() // after a commit it does nothing; also when f panics
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}
