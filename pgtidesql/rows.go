package pgtidesql

import (
	"database/sql/driver"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/stdlib"
)

// rows are the rows of pgx/stdlib, and tell when they end.
type rows struct {
	*stdlib.Rows
	end   func(error) error // says what the error is to the caller
	ended bool
	err   error // what end said
}

func newRows(r driver.Rows, end func(error) error) (driver.Rows, error) {
	inner, ok := r.(*stdlib.Rows)
	if !ok {
		err := fmt.Errorf("pgtidesql: pgx/stdlib gave rows of type %T", r)
		_ = r.Close()
		return nil, end(err)
	}
	return &rows{Rows: inner, end: end}, nil
}

// Next implements [driver.Rows].
func (r *rows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == nil || err == io.EOF {
		return err
	}
	_ = r.Rows.Close() // the error is known
	return r.finish(err)
}

// Close implements [driver.Rows].
func (r *rows) Close() error { return r.finish(r.Rows.Close()) }

func (r *rows) finish(err error) error {
	if !r.ended {
		r.ended, r.err = true, r.end(err)
	}
	return r.err
}
