// Package pgbouncer tests pgtide behind PgBouncer: a pooler in transaction mode
// in front of every node, which gives each transaction whatever server connection
// is free. The poolers are real ones, configured as plainly as can be.
package pgbouncer
