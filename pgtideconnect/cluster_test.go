package pgtideconnect_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtideconnect"
)

// startCluster starts a primary and a replica that replays nothing any more:
// whoever reads a row of the test there, reads stale.
func startCluster(t *testing.T) *lab.Cluster {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pgx.Connect(t.Context(), c.Primary().DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "create table message (id text)"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Replicas()[0].PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// process is one of the services: it shares the cluster with the others, and
// nothing else.
type process struct{ db *pgtide.DB }

func startProcess(t *testing.T, c *lab.Cluster) *process {
	t.Helper()
	// The replica is to be avoided for what it lacks, not for its age.
	db, err := pgtide.Open(t.Context(), pgtide.Options{DSN: c.DSN(), MaxStaleness: -1, WaitBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return &process{db}
}

// do does "write ID", or "count ID", which answers how many rows it sees.
func (p *process) do(ctx context.Context, what string) (string, error) {
	verb, id, _ := strings.Cut(what, " ")
	if verb == "write" {
		_, err := p.db.Exec(ctx, "insert into message values ($1)", id)
		return "", err
	}
	var n int
	err := p.db.QueryRow(ctx, "select count(*) from message where id = $1", id).Scan(&n)
	return strconv.Itoa(n), err
}

func TestCluster(t *testing.T) {
	cluster := startCluster(t)
	i := newInterceptor(t, pgtideconnect.Options{})
	calls := map[string]func(*testing.T, context.Context, *client, string) string{
		"unary": func(t *testing.T, ctx context.Context, c *client, what string) string {
			answer, err := c.ask(ctx, what)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		},
		"stream": func(t *testing.T, ctx context.Context, c *client, what string) string {
			stream := c.open(t, ctx)
			answer := stream.ask(what)
			stream.end()
			return answer
		},
	}
	for kind, call := range calls {
		for _, carried := range []bool{true, false} {
			want, handler, options := "1", with(i), []connect.ClientOption{connect.WithInterceptors(i)}
			if !carried {
				want, handler, options = "0", nil, nil // the control
			}
			t.Run(fmt.Sprintf("%s, carried %v", kind, carried), func(t *testing.T) {
				a, b := startProcess(t, cluster), startProcess(t, cluster)
				c := serve(t, b.do, handler, options...)
				row := strings.ReplaceAll(t.Name(), " ", "_")

				ctx := sessionAt(t, 0)
				if _, err := a.do(ctx, "write "+row); err != nil {
					t.Fatal(err)
				}
				if got := call(t, ctx, c, "count "+row); got != want {
					t.Errorf("the callee sees %s rows of the caller's, want %s", got, want)
				}

				row, ctx = row+"_back", sessionAt(t, 0)
				call(t, ctx, c, "write "+row)
				if got, err := a.do(ctx, "count "+row); got != want || err != nil {
					t.Errorf("the caller sees %s rows of the callee's, %v; want %s", got, err, want)
				}
			})
		}
	}
}
