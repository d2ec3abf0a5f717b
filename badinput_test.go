package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

// badTexts are statements that no server runs, or hardly.
var badTexts = map[string]string{
	"empty":               "",
	"white space":         " \n\t",
	"no SQL":              "the quick brown fox",
	"half a statement":    "select * from",
	"NUL byte":            "select 'a\x00b'",
	"invalid UTF-8":       "select '\xff\xfe'",
	"open quote":          "select 'open",
	"open dollar quote":   "select $tag$open",
	"open comment":        "select 1 /* open",
	"open identifier":     `select "open`,
	"deep parentheses":    "select " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
	"ten megabytes":       "select length('" + strings.Repeat("x", 10<<20) + "')",
	"ten megabytes open":  "select '" + strings.Repeat("x", 10<<20),
	"no such table":       "select * from nowhere",
	"no such table write": "insert into nowhere values (1)",
	"several":             "select 1; select 2; nonsense",
}

// TestBadTextsGetPgxsErrors compares with a plain pool, in all modes of pgx.
func TestBadTextsGetPgxsErrors(t *testing.T) {
	t.Parallel()
	plain, err := pgxpool.New(t.Context(), shared.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	db := open(t, shared, pgtide.Options{})
	for name, sql := range badTexts {
		_, want := plain.Exec(t.Context(), sql)
		_, got := db.Exec(t.Context(), sql)
		same(t, "Exec of "+name, got, want)
		rows, _ := plain.Query(t.Context(), sql)
		rows.Close()
		mine, _ := db.Query(t.Context(), sql)
		mine.Close()
		same(t, "Query of "+name, mine.Err(), rows.Err())
	}
	released(t, db)
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

// TestManyTextsNeedBoundedMemory sends 100,000 texts of a program that builds
// its statements out of values, each long enough to be felt.
func TestManyTextsNeedBoundedMemory(t *testing.T) {
	db := open(t, shared, pgtide.Options{Configure: func(_ string, config *pgxpool.Config) error {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // pgx keeps nothing of its own
		return nil
	}})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	before := heap()
	const texts, size = 100_000, 1 << 10
	filler := strings.Repeat("x", size)
	for i := range texts / 100 {
		// One of a hundred is run, the others only looked at: a server would need
		// minutes.
		for j := range 100 {
			sql := fmt.Sprintf("select %d as n /* %s */", i*100+j, filler)
			if j > 0 {
				if _, err := db.Exec(ended, sql); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				continue
			}
			var n int
			if err := db.QueryRow(t.Context(), sql).Scan(&n); err != nil || n != i*100+j {
				t.Fatalf("text %d: got %d (%v)", i*100, n, err)
			}
		}
	}
	if grown := heap() - before; grown > 24<<20 {
		t.Errorf("%d texts of %d bytes have left %d MiB in memory", texts, size, grown>>20)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
