package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/examples/sqlc/store"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestMain(m *testing.M) {
	pgtidetest.Main(m, pgtidetest.Options{Schema: schema})
}

func TestShop(t *testing.T) {
	pgtidetest.Run(t, func(t testing.TB, tide *pgtidetest.Tide) {
		if err := shop(pgtide.NewSession(t.Context()), store.New(tide.DB), io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// router is one that knows no more than the method's name.
type router struct{ primary, replica *pgxpool.Pool }

func (r router) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return r.primary.Exec(ctx, sql, args...)
}

func (r router) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return r.primary.QueryRow(ctx, sql, args...) // it may be "insert ... returning"
}

func (r router) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return r.replica.Query(ctx, sql, args...)
}

// A router between sqlc's code and two pools is found out, with the line of the
// program that led there.
func TestRouterIsStale(t *testing.T) {
	report := pgtidetest.Finder{}.Find(t, func(t testing.TB, tide *pgtidetest.Tide) {
		var r router
		for node, p := range map[string]**pgxpool.Pool{tide.Primary(): &r.primary, tide.Replicas()[0]: &r.replica} {
			pool, err := pgxpool.New(t.Context(), tide.DSN(node))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			*p = pool
		}
		if err := shop(t.Context(), store.New(r), io.Discard); err != nil {
			t.Error(err)
		}
	})
	if len(report.Findings) != 1 {
		t.Fatalf("findings %v, want one", report.Findings)
	}
	var files []string
	for _, place := range report.Findings[0].Stack {
		files = append(files, filepath.Base(place[:strings.LastIndexByte(place, ':')]))
	}
	if got := files[:3]; got[0] != "main_test.go" || got[1] != "queries.sql.go" || got[2] != "main.go" {
		t.Errorf("the read is at %v, want it in the router, sqlc's code and main.go", got)
	}
}

func TestProgram(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil || out.String() != "tea\n" {
		t.Errorf("it prints %q, %v", &out, err)
	}
}
