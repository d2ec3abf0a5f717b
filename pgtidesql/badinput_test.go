package pgtidesql_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// TestBadTextsGetPgxsErrors compares with pgx/stdlib.
func TestBadTextsGetPgxsErrors(t *testing.T) {
	pgtide, db := open(t)
	plain, err := sql.Open("pgx", paused.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for name, text := range map[string]string{
		"empty":            "",
		"no SQL":           "the quick brown fox",
		"NUL byte":         "select 'a\x00b'",
		"invalid UTF-8":    "select '\xff\xfe'",
		"open quote":       "select 'open",
		"open comment":     "select 1 /* open",
		"ten megabytes":    "select length('" + strings.Repeat("x", 10<<20) + "')",
		"no such table":    "select * from nowhere",
		"write to nowhere": "insert into nowhere values (1)",
		"several":          "select 1; select 2",
		"argument missing": "select $1::int",
	} {
		_, want := plain.ExecContext(t.Context(), text)
		_, got := db.ExecContext(t.Context(), text)
		same(t, "Exec of "+name, got, want)
		same(t, "Query of "+name, query(t, db, text), query(t, plain, text))
		same(t, "Prepare of "+name, prepared(t, db, text), prepared(t, plain, text))
	}
	idle(t, pgtide)
}

func query(t *testing.T, db *sql.DB, text string) error {
	rows, err := db.QueryContext(t.Context(), text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func prepared(t *testing.T, db *sql.DB, text string) error {
	stmt, err := db.PrepareContext(t.Context(), text)
	if err != nil {
		return err
	}
	return stmt.Close()
}

func same(t *testing.T, what string, got, want error) {
	t.Helper()
	var a, b *pgconn.PgError
	switch {
	case errors.As(want, &b):
		if !errors.As(got, &a) || a.Code != b.Code || a.Message != b.Message {
			t.Errorf("%s: %.200v, want %.200v as from pgx", what, got, want)
		}
	case (got == nil) != (want == nil):
		t.Errorf("%s: %.200v, want %.200v as from pgx", what, got, want)
	case got != nil && got.Error() != want.Error():
		t.Errorf("%s: %.200v, want %.200v as from pgx", what, got, want)
	}
}
