package pgtidesql

import (
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5/stdlib"
)

// rows are the rows of pgx/stdlib, and tell when they end.
type rows struct {
	*stdlib.Rows
	end   func(error)
	ended bool
}

func newRows(r driver.Rows, end func(error)) (driver.Rows, error) {
	inner, ok := r.(*stdlib.Rows)
	if !ok {
		err := fmt.Errorf("pgtidesql: pgx/stdlib gave rows of type %T", r)
		_ = r.Close()
		end(err)
		return nil, err
	}
	return &rows{Rows: inner, end: end}, nil
}

// Close implements [driver.Rows].
func (r *rows) Close() error {
	err := r.Rows.Close()
	if !r.ended {
		r.ended = true
		r.end(err)
	}
	return err
}
