// Package pgtidesql gives a real *sql.DB over a [pgtide.DB]: the same nodes,
// the same decisions, the same sessions.
//
//	sqldb := pgtidesql.Open(db)
//
// Everything that database/sql and pgx/stdlib can do goes on: what reaches a
// server does so through a pgx/stdlib connection out of the node's own pool.
//
// # Connections
//
// A connection of the *sql.DB is a light handle. It takes a physical connection
// for one operation and gives it back when the operation, its rows or its
// transaction end, so that each operation goes where its statement belongs.
// Limits such as SetMaxOpenConns count handles; how many physical connections
// there are is for the pools of the nodes.
//
// A statement that acts on the server session (SET, LISTEN, an advisory lock, a
// temporary table), or that is not understood, runs on the primary, and the
// handle keeps that connection for as long as its user keeps the handle: a
// *sql.Conn sees what it has set. If something may be left in the session then,
// also by a transaction, the physical connection is closed, so that nothing of it
// reaches the next user of the pool.
//
// A prepared statement is checked by a server when it is prepared, and routed
// each time it is executed.
//
// # Sessions and contexts
//
// Contexts say the same as with a [pgtide.DB]: [pgtide.NewSession],
// [pgtide.OnPrimary], [pgtide.WithConsistency] and all others. A transaction
// with sql.TxOptions.ReadOnly may begin on a replica.
//
// # Errors
//
// They are those of pgtide and pgx: a *pgconn.PgError, pgtide.ErrNoPrimary,
// pgtide.ErrOutcomeUnknown. [driver.ErrBadConn] does not reach the caller for
// an operation on the *sql.DB itself: pgtide has tried elsewhere before, where
// that was safe.
package pgtidesql
