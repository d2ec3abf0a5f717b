package main

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// client is a way to write.
type client struct {
	name string
	querier
	found *tally
}

// tally is what became of a client's calls.
type tally struct {
	mu      sync.Mutex        // guards the fields below
	acked   []int64           // rows
	first   map[int]time.Time // acknowledged write of the event under way, by the server's port
	unknown int               // calls of pgtide's that failed because nobody knows their outcome
	failed  int               // calls that failed otherwise; all that did, of a plain pool's
	last    error             // of those
}

func newTally() *tally { return &tally{first: map[int]time.Time{}} }

// write writes a row and notes how that went.
func (c client) write(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var port int
	err := c.QueryRow(ctx, "insert into written (client, id) values ($1, $2) returning inet_server_port()", c.name, id).Scan(&port)
	now := time.Now()
	c.found.mu.Lock()
	defer c.found.mu.Unlock()
	switch {
	case err == nil:
		c.found.acked = append(c.found.acked, id)
		if c.found.first[port].IsZero() {
			c.found.first[port] = now
		}
	case pgtide.OutcomeUnknown(err):
		c.found.unknown++
	default:
		c.found.failed++
		c.found.last = err
	}
	return err
}

// at returns when the server on port first acknowledged a write.
func (t *tally) at(port int) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first[port]
}

// begin forgets the servers of the event before.
func (t *tally) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.first)
}

// kept is what the table says of a client's rows.
type kept struct{ twice, lost int }

// rows compares what client was told with what is there.
func (f *failover) rows(ctx context.Context, client string, acked []int64) (k kept, err error) {
	conn, err := pgx.Connect(ctx, f.cluster.Primary().DSN())
	if err != nil {
		return k, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "select id, count(*) from written where client = $1 group by id", client)
	if err != nil {
		return k, err
	}
	there := map[int64]int{}
	var id int64
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = n; return nil }); err != nil {
		return k, err
	}
	for _, n := range there {
		if n > 1 {
			k.twice++
		}
	}
	for _, id := range acked {
		if there[id] == 0 {
			k.lost++
		}
	}
	return k, nil
}
