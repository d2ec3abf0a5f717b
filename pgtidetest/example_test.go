package pgtidetest_test

import (
	"context"
	"embed"
	"os/exec"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

// t and m stand for those of a test.
var (
	t *testing.T
	m *testing.M
)

var migrations embed.FS

// A test of code that must see its own writes, on replicas that lag.
func Example() {
	tide := pgtidetest.New(t)
	tide.Freeze()
	ctx := pgtide.NewSession(t.Context())
	if _, err := tide.Exec(ctx, "insert into orders (id) values (1)"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tide.QueryRow(ctx, "select count(*) from orders where id = 1").Scan(&n); err != nil || n != 1 {
		t.Errorf("the session sees %d of its orders, %v; want 1", n, err)
	}
	pgtidetest.ServedBy(t, ctx, pgtide.RolePrimary)

	tide.Step() // the replicas have the order, and nothing that comes after
	tide.NoPrimaryReads(t, func() {
		if err := tide.QueryRow(ctx, "select count(*) from orders").Scan(&n); err != nil {
			t.Fatal(err)
		}
	})
}

// Databases that begin as the project's own migrations leave them, by whatever
// tool.
func ExampleMain() {
	pgtidetest.Main(m, pgtidetest.Options{
		Files: migrations, // embedded from migrations/*.sql
		Migrate: func(ctx context.Context, dsn string) error {
			return exec.CommandContext(ctx, "goose", "-dir", "migrations", "postgres", dsn, "up").Run()
		},
	})
}

// A failover in a test.
func ExampleTide_Promote() {
	tide := pgtidetest.New(t)
	tide.Delay(100 * time.Millisecond)
	tide.Kill(tide.Primary())
	tide.Promote(tide.Replicas()[0])
	if _, err := tide.Exec(t.Context(), "insert into orders (id) values (2)"); err != nil {
		t.Errorf("a write after the failover: %v", err)
	}
}
