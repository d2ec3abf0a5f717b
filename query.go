package pgtide

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgtide/pgtide/internal/stamp"
)

// Query runs a statement where it belongs and returns its rows. They hold a
// connection until they are read to the end or closed.
//
// A read that fails before its first row was handed out is made again on
// another node when that may help. So the error of the first Next is the
// error of the last attempt.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r := &rows{call: db.statement(ctx, sql, rewritten(args)), base: ctx, sql: sql}
	r.args = r.shown(args)
	err := r.send()
	return r, err
}

// QueryRow runs a statement that returns at most one row. Errors are deferred
// to the row's Scan, which returns [pgx.ErrNoRows] when there is no row.
func (db *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r := &rows{call: db.statement(ctx, sql, rewritten(args)), base: ctx, sql: sql}
	r.args = r.shown(args)
	_ = r.send() // kept for Scan
	return (*row)(r)
}

// rows are the result of a call that may still have to be made again.
type rows struct {
	call
	base context.Context // the caller's, for further attempts
	sql  string
	args []any

	rows pgx.Rows // of the attempt under way; nil when it could not be sent
	over bool     // done was called for it
	err  error    // the final error
}

// send makes attempts until one was sent.
func (r *rows) send() error {
	for {
		if r.err = r.acquire(r.base); r.err != nil {
			r.rows, r.over = nil, true
			return r.err
		}
		r.arm(stamp.Query)
		r.over = false
		err := r.query()
		if err == nil {
			return nil
		}
		if !r.end(err) {
			return r.err
		}
	}
}

func (r *rows) query() (err error) {
	returned := false
	defer func() {
		if !returned {
			r.over = true
			r.abandon()
		}
	}()
	r.rows, err = r.conn.Conn().Query(r.ctx, r.sql, r.args...)
	returned = true
	return err
}

// end ends the attempt. It reports whether another one must be made.
func (r *rows) end(err error) (again bool) {
	if r.over {
		return false
	}
	r.over = true
	again, r.err = r.done(err)
	return again
}

// Next implements [pgx.Rows].
func (r *rows) Next() bool {
	for !r.over {
		if r.rows.Next() {
			r.hand()
			return true
		}
		r.rows.Close()
		if !r.end(r.rows.Err()) {
			return false
		}
		if r.send() != nil {
			return false
		}
	}
	return false
}

// Close implements [pgx.Rows].
func (r *rows) Close() {
	if r.over {
		return
	}
	r.rows.Close()
	r.handed = true // whoever closes the rows wants no other attempt
	r.end(r.rows.Err())
}

// Err implements [pgx.Rows].
func (r *rows) Err() error {
	if r.over {
		return r.err
	}
	return r.rows.Err()
}

// Scan implements [pgx.Rows].
func (r *rows) Scan(dest ...any) error {
	if r.rows == nil {
		return r.err
	}
	if len(dest) == 1 {
		if s, ok := dest[0].(pgx.RowScanner); ok {
			return r.failed(s.ScanRow(r))
		}
	}
	return r.failed(r.rows.Scan(dest...))
}

// Values implements [pgx.Rows].
func (r *rows) Values() ([]any, error) {
	if r.rows == nil {
		return nil, r.err
	}
	v, err := r.rows.Values()
	return v, r.failed(err)
}

// failed ends the rows after an error of the driver's, as pgx does.
func (r *rows) failed(err error) error {
	if err != nil {
		r.Close()
		if r.err == nil {
			r.err = err // of a RowScanner, which the driver has not seen
		}
	}
	return err
}

// RawValues implements [pgx.Rows].
func (r *rows) RawValues() [][]byte {
	if r.rows == nil {
		return nil
	}
	return r.rows.RawValues()
}

// FieldDescriptions implements [pgx.Rows].
func (r *rows) FieldDescriptions() []pgconn.FieldDescription {
	if r.rows == nil {
		return nil
	}
	return r.rows.FieldDescriptions()
}

// CommandTag implements [pgx.Rows].
func (r *rows) CommandTag() pgconn.CommandTag {
	if r.rows == nil {
		return pgconn.CommandTag{}
	}
	return r.rows.CommandTag()
}

// Conn implements [pgx.Rows].
func (r *rows) Conn() *pgx.Conn {
	if r.rows == nil {
		return nil
	}
	return r.rows.Conn()
}

// TypeMap implements [pgx.Rows].
func (r *rows) TypeMap() *pgtype.Map {
	if r.rows == nil {
		return nil
	}
	return r.rows.TypeMap()
}

// row is rows of which one is wanted.
type row rows

// Scan implements [pgx.Row].
func (r *row) Scan(dest ...any) error { return scanRow((*rows)(r), dest) }

// scanRow reads one row, as pgx does for QueryRow.
func scanRow(rows pgx.Rows, dest []any) error {
	defer rows.Close()
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			return errors.New("cannot scan into *pgtype.DriverBytes from QueryRow: it would not outlive the row")
		}
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}
