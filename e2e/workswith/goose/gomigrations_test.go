package goose_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
)

// inTx is a migration in Go that runs in goose's transaction: on the very
// connection that holds goose's lock.
var inTx = goose.NewGoMigration(3,
	&goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		var held bool
		const own = `select exists (select from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid())`
		if err := tx.QueryRowContext(ctx, own).Scan(&held); err != nil {
			return err
		}
		if !held {
			return errors.New("the transaction is not on the session that holds the lock")
		}
		insert, err := tx.PrepareContext(ctx, `insert into post (title) values ($1) returning id`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, title := range []string{"third", "fourth"} {
			var id, length int64
			if err := insert.QueryRowContext(ctx, title).Scan(&id); err != nil {
				return err
			}
			const read = `select title_length(post) from post where id = $1 for update`
			if err := tx.QueryRowContext(ctx, read, id).Scan(&length); err != nil {
				return fmt.Errorf("read post %d: %w", id, err)
			}
			if length != int64(len(title)) {
				return fmt.Errorf("post %d has a title of %d bytes, want %d", id, length, len(title))
			}
		}
		return nil
	}},
	&goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `delete from post where title in ('third', 'fourth')`)
		return err
	}},
)

// inDB is a migration in Go without a transaction: goose gives it the *sql.DB,
// and so a connection beside the one that holds the lock.
var inDB = goose.NewGoMigration(4,
	&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
		var held bool
		const other = `select exists (select from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid())`
		if err := db.QueryRowContext(ctx, other).Scan(&held); err != nil {
			return err
		}
		if !held {
			return errors.New("nobody holds the lock, or the migration runs on its session")
		}
		rows, err := db.QueryContext(ctx, `update post set title = upper(title) where title like '%th' returning title`)
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			n++
		}
		if n != 1 {
			return fmt.Errorf("renamed %d posts, want 1", n)
		}
		return rows.Err()
	}},
	&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, `update post set title = lower(title)`)
		return err
	}},
)
