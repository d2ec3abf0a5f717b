// Package goose shows goose's migrations on a pgtide cluster:
//
//	provider, err := goose.NewProvider(goose.DialectPostgres, pgtidesql.Open(db), migrations)
//	results, err := provider.Up(pgtide.OnPrimary(ctx))
//
// goose asks which migrations are applied by plain reads and, in HasPending,
// before it holds its lock. OnPrimary sends these where the migrations run: a
// replica may not know yet what another process has migrated a moment ago.
// The session locker works as it is; see the wait test for how to
// wait until the replicas have the new schema.
//
// goose's own ways of opening a database by a driver's name accept none that
// goose does not know: open the *sql.DB with sql.Open("pgtide", dsn) yourself.
package goose
