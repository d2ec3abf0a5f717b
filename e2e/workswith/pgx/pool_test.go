package pgx

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// TestPools has what is set up in each node's pool and on each connection.
func TestPools(t *testing.T) {
	c := paused.New(t, schema)

	t.Run("statements prepared by name", func(t *testing.T) {
		db := configure(t, c, func(config *pgxpool.Config) {
			config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
				for name, sql := range map[string]string{"by_text": byText, "insert_message": insert} {
					if _, err := conn.Prepare(ctx, name, sql); err != nil {
						return err
					}
				}
				return nil
			}
		})
		read := func(ctx context.Context, text string) error {
			rows, _ := db.Query(ctx, "by_text", text)
			_, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[message])
			return err
		}
		ctx := pgtide.NewSession(t.Context())
		if err := read(pgtide.OnReplica(ctx), "hello"); err != nil {
			t.Error(err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
		if _, err := db.Exec(ctx, "insert_message", "by name"); err != nil {
			t.Fatal(err)
		}
		paused.Served(t, ctx, pgtide.RolePrimary)
		if err := read(ctx, "by name"); err != nil {
			t.Errorf("a read by name after a write by name: %v", err)
		}
		if err := read(pgtide.OnReplica(ctx), "by name"); err != nil {
			t.Errorf("the same, wanted on a replica: %v", err)
		}
		c.OnReplica(t, byText, "by name")
		idle(t, db)
	})

	t.Run("a tracer sees the caller's statements alone", func(t *testing.T) {
		seen := &tracer{}
		db := configure(t, c, func(config *pgxpool.Config) { config.ConnConfig.Tracer = seen })
		for _, n := range c.Nodes() { // a new connection is greeted first
			if err := db.Ping(pgtide.OnNode(t.Context(), n.Name())); err != nil {
				t.Fatal(err)
			}
		}
		ctx := pgtide.NewSession(t.Context())
		if err := db.QueryRow(ctx, "select 1").Scan(new(int)); err != nil {
			t.Error(err)
		}
		if _, err := db.Exec(ctx, insert, "traced"); err != nil {
			t.Error(err)
		}
		if err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select 2")
			return err
		}); err != nil {
			t.Error(err)
		}
		want := []string{"select 1", insert, "begin", "select 2", "commit"}
		if got := seen.statements(); !slices.Equal(got, want) {
			t.Errorf("traced %q, want %q", got, want)
		}
		idle(t, db)
	})

	t.Run("COPY TO from a replica", func(t *testing.T) {
		ctx := pgtide.NewSession(t.Context())
		conn, err := c.DB.Acquire(pgtide.OnReplica(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		var out strings.Builder
		if _, err := conn.Conn().PgConn().CopyTo(ctx, &out, "copy (select text from message where likes = 2) to stdout"); err != nil || out.String() != "world\n" {
			t.Errorf("copied %q, %v", out.String(), err)
		}
		paused.Served(t, ctx, pgtide.RoleReplica)
	})

	t.Run("notifications", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := c.DB.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		if _, err := conn.Exec(ctx, "listen news"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DB.Exec(ctx, "select pg_notify('news', $1)", "it rains"); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Conn().WaitForNotification(ctx)
		if err != nil || n.Payload != "it rains" {
			t.Errorf("notification %v, %v", n, err)
		}
	})
}

// tracer keeps the statements of sessions.
type tracer struct {
	mu  sync.Mutex // guards all
	all []string
}

// TraceQueryStart implements [pgx.QueryTracer].
func (r *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if pgtide.HasSession(ctx) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, data.SQL)
	}
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (r *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *tracer) statements() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}
