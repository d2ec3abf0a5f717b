package service

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/pgtide/pgtide"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema up to date on the primary and returns once every
// replica that is up has it too. That takes as long as the slowest replica is
// behind, at most until ctx ends. Any number of processes may migrate at once:
// one does it, the others wait for it.
func Migrate(ctx context.Context, db *pgtide.DB) error {
	if err := migratePrimary(ctx, db); err != nil {
		return fmt.Errorf("migrate the primary: %w", err)
	}
	// Not the session's token: another process may have done the work.
	token, err := db.CurrentToken(ctx)
	if err != nil {
		return fmt.Errorf("ask the primary for its position: %w", err)
	}
	if err := db.WaitFor(ctx, token); err != nil {
		return fmt.Errorf("wait for the schema on the replicas: %w", err)
	}
	return nil
}

// migratePrimary connects to the server that is the primary now and to no
// other: the table of versions is read there as well.
func migratePrimary(ctx context.Context, db *pgtide.DB) error {
	conn, err := db.Acquire(pgtide.OnPrimary(ctx))
	if err != nil {
		return err
	}
	config := conn.Conn().Config()
	conn.Release()
	sqldb := stdlib.OpenDB(*config)
	defer sqldb.Close()

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// Look at the lock once a second, 60 times: the standard 5 s are long for a start.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, sqldb, files, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}
