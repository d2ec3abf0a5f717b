package pgx

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// schema ends with rows that the replicas have.
const schema = `
	create table message (
		id     bigint generated always as identity primary key,
		text   text not null unique,
		likes  int not null default 0,
		posted timestamptz not null default now()
	);
	create function write_message(t text) returns bigint language sql as
		$$ insert into message (text) values (t) returning id $$;
	create procedure post_message(t text) language sql as
		$$ insert into message (text) values (t) $$;
	insert into message (text, likes) values ('hello', 1), ('world', 2);
	select lo_from_bytea(4711, 'a large object')`

type message struct {
	ID     int64
	Text   string
	Likes  int
	Posted time.Time
}

const (
	insert = "insert into message (text) values ($1)"
	byText = "select * from message where text = $1"
)

// configure opens another DB on the nodes of c, whose pools are changed.
func configure(t *testing.T, c *paused.Cluster, change func(*pgxpool.Config)) *pgtide.DB {
	t.Helper()
	o := pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1}
	o.Configure = func(_ string, config *pgxpool.Config) error {
		change(config)
		return nil
	}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// idle fails the test if a connection of a node stays taken. A pool closes
// broken connections in the background, without a signal.
func idle(t *testing.T, db *pgtide.DB) {
	t.Helper()
	busy := func() string {
		for _, n := range db.Stat().Nodes {
			if n.InFlight != 0 || n.Pool.AcquiredConns() != 0 {
				return n.Name
			}
		}
		return ""
	}
	for deadline := time.Now().Add(5 * time.Second); busy() != ""; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("node %s has calls in flight or connections taken", busy())
		}
	}
}
