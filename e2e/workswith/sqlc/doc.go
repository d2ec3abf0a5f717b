// Package sqlc shows pgtide under code that sqlc generates.
//
// For pgx, a *pgtide.DB is the DBTX that the generated New takes:
//
//	queries := pgxdb.New(db)
//
// For database/sql, pgtidesql gives a real *sql.DB, to New or, with
// emit_prepared_queries, to Prepare:
//
//	queries := stddb.New(pgtidesql.Open(db))
//
// Each query is routed by what its statement does, not by its annotation: a :one
// may well be an insert, and then goes to the primary. What the statement does
// not say, the context does: call with pgtide.OnPrimary(ctx) and its like.
// So does a comment in the .sql file, on the line on which the statement begins,
// for sqlc drops comments that have a line to themselves:
//
//	/* pgtide: primary */ select count(*) from author;
package sqlc

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
