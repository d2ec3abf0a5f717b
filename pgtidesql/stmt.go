package pgtidesql

import (
	"context"
	"database/sql/driver"
)

// stmt is a prepared statement. Nothing of it is kept on a server: it is routed
// each time, and pgx caches it on each connection that it runs on.
type stmt struct {
	conn   *Conn
	query  string
	inputs int
}

// NumInput implements [driver.Stmt].
func (s *stmt) NumInput() int { return s.inputs }

// Close implements [driver.Stmt].
func (s *stmt) Close() error { return nil }

// ExecContext implements [driver.StmtExecContext].
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

// QueryContext implements [driver.StmtQueryContext].
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

// CheckNamedValue implements [driver.NamedValueChecker].
func (s *stmt) CheckNamedValue(*driver.NamedValue) error { return nil }

// Exec implements [driver.Stmt].
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), named(args))
}

// Query implements [driver.Stmt].
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), named(args))
}

func named(args []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}
