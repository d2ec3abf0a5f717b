// Package squirrel shows pgtide under squirrel.
//
// Statements run with the *sql.DB of pgtidesql, or with a transaction of it:
//
//	sqldb := pgtidesql.Open(db)
//	psql := sq.StatementBuilder.PlaceholderFormat(sq.Dollar).RunWith(sqldb)
//
// or squirrel only builds them, and a *pgtide.DB runs what ToSql returns. Use the
// methods that take a context, as it carries the session. A hint in front of a
// statement is a Prefix:
//
//	psql.Select("*").Prefix("/* pgtide: primary */").From("item")
//
// A StmtCache works, and saves nothing: pgx caches statements on each connection
// by itself.
package squirrel
