// Package pgx shows pgtide under pgx's own helpers.
//
// A *pgtide.DB takes the place of a *pgxpool.Pool: whatever collects rows, begins
// transactions or sends batches for a pool does so for it:
//
//	rows, _ := db.Query(ctx, "select * from message")
//	messages, err := pgx.CollectRows(rows, pgx.RowToStructByName[message])
//
//	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { ... })
//
// A transaction is a pgx.Tx, and stays on its node with all that belongs to it:
// savepoints, prepared statements, large objects. A statement prepared by name on
// each new connection is known to pgtide by its name alone, so it goes to the
// primary unless the context says pgtide.OnReplica.
package pgx
