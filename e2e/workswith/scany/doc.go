// Package scany shows pgtide under scany.
//
// A *pgtide.DB, its transactions and its connections are what pgxscan queries:
//
//	err := pgxscan.Select(ctx, db, &users, "select * from users")
//
// and so is the *sql.DB of pgtidesql for sqlscan:
//
//	err := sqlscan.Get(ctx, pgtidesql.Open(db), &user, "select * from users where id = $1", id)
//
// Get and Select go where their statement belongs: one that inserts and returns
// rows goes to the primary.
package scany
