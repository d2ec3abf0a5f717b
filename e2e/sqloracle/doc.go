// Package sqloracle compares internal/sqlkind with PostgreSQL's own grammar, as
// package pg_query carries it. Its tests need cgo and a C compiler; without them
// there is nothing here.
package sqloracle
