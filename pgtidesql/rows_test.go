package pgtidesql_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pgtide/pgtide"
)

// TestWriteBrokenAmongItsRows ends the server's part of an INSERT of which some
// rows have been read.
func TestWriteBrokenAmongItsRows(t *testing.T) {
	db, sqldb := open(t)
	ctx := pgtide.NewSession(t.Context())
	rows, err := sqldb.QueryContext(ctx, "insert into message (text) select repeat('x', 1000) from generate_series(1, 100000) returning pg_backend_pid(), text")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	// The server must still be sending when it is ended: the rows are more than what
	// buffers hold.
	var pid, read int
	var text string
	for rows.Next() {
		if err := rows.Scan(&pid, &text); err != nil {
			t.Fatal(err)
		}
		if read++; read == 1 {
			if _, err := db.Exec(t.Context(), fmt.Sprintf("select pg_terminate_backend(%d, 5000)", pid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := rows.Err(); !errors.Is(err, pgtide.ErrOutcomeUnknown) {
		t.Errorf("after %d rows: %v, want ErrOutcomeUnknown", read, err)
	}
	if n := db.Stat().OutcomeUnknown; n != 1 {
		t.Errorf("%d writes of unknown outcome are counted, want 1", n)
	}
	idle(t, db)
}
