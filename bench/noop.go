package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
)

// noopName is the name of a driver whose servers have one row and answer at once.
const noopName = "bench-noop"

func init() { sql.Register(noopName, noopDriver{}) }

// noopUnder is two servers of that driver. pgtide cannot stand on them, for it
// speaks pgx.
func noopUnder() *under {
	u := &under{nap: noopName, sources: "primary;replica"}
	for _, db := range []**sql.DB{&u.primary, &u.replica} {
		*db = sized(sql.OpenDB(noopDriver{}))
		u.add(func() { (*db).Close() })
	}
	return u
}

type noopDriver struct{}

func (noopDriver) Open(string) (driver.Conn, error)             { return noopConn{}, nil }
func (noopDriver) Connect(context.Context) (driver.Conn, error) { return noopConn{}, nil }
func (noopDriver) Driver() driver.Driver                        { return noopDriver{} }

type noopConn struct{}

func (noopConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("nobody prepares statements here")
}
func (noopConn) Close() error                               { return nil }
func (noopConn) Begin() (driver.Tx, error)                  { return noopConn{}, nil }
func (noopConn) Commit() error                              { return nil }
func (noopConn) Rollback() error                            { return nil }
func (noopConn) CheckNamedValue(v *driver.NamedValue) error { return nil }
func (noopConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return noopConn{}, nil
}

func (noopConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), nil
}

func (noopConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	switch {
	case len(query) > 6 && strings.EqualFold(query[:6], "insert"):
		return &noopRows{columns: justID}, nil
	case strings.HasPrefix(query, "select v "):
		return &noopRows{columns: justV}, nil
	}
	return &noopRows{columns: idAndV}, nil
}

var justID, justV, idAndV = []string{"id"}, []string{"v"}, []string{"id", "v"}

type noopRows struct {
	columns []string
	done    bool
}

func (r *noopRows) Columns() []string { return r.columns }
func (r *noopRows) Close() error      { return nil }

func (r *noopRows) Next(dest []driver.Value) error {
	if r.done {
		return io.EOF
	}
	r.done = true
	for i, c := range r.columns {
		dest[i] = int64(1)
		if c == "v" {
			dest[i] = "x"
		}
	}
	return nil
}
