package pgbouncer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// stand is a primary and two replicas, each behind a PgBouncer of its own.
type stand struct {
	*lab.Cluster
	bouncers []*bouncer // in the order of the nodes
}

const schema = `
create table message (id bigint generated always as identity primary key, text text not null);
create function write_message(t text) returns bigint language sql as
	$$ insert into message (text) values (t) returning id $$;
`

// start starts a stand until the end of the test. settings are those of all
// poolers. A server that is back is tried again after a second: for an answer
// within the test, where the default is 15.
func start(t *testing.T, settings map[string]string) *stand {
	t.Helper()
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	conn := connect(t, c.Primary().DSN())
	if _, err := conn.Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &stand{Cluster: c}
	all := map[string]string{"server_login_retry": "1"}
	for k, v := range settings {
		all[k] = v
	}
	for _, n := range c.Nodes() {
		s.bouncers = append(s.bouncers, startBouncer(t, n, all))
	}
	return s
}

// of returns the pooler in front of n.
func (s *stand) of(n *lab.Node) *bouncer {
	for _, b := range s.bouncers {
		if b.node.Name() == n.Name() {
			return b
		}
	}
	return nil
}

// nodes are the poolers as nodes, each called by the name of its server.
func (s *stand) nodes() []pgtide.Node {
	var nodes []pgtide.Node
	for _, b := range s.bouncers {
		nodes = append(nodes, pgtide.Node{Name: b.node.Name(), DSN: b.dsn()})
	}
	return nodes
}

// open opens a DB on the poolers until the end of the test.
func (s *stand) open(t *testing.T, o pgtide.Options) *pgtide.DB {
	t.Helper()
	if o.Nodes == nil {
		o.Nodes = s.nodes()
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// pause stops the replay of all replicas.
func (s *stand) pause(t *testing.T) {
	t.Helper()
	if err := s.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Replicas() {
		if err := r.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// resume undoes pause and waits until the replicas have everything.
func (s *stand) resume(t *testing.T) {
	t.Helper()
	for _, r := range s.Replicas() {
		if err := r.ResumeReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// patient are options under which calls wait rather for a node than give up, and
// lagging replicas are nobody's concern but their readers'.
func patient() pgtide.Options {
	return pgtide.Options{WaitBudget: -1, MaxStaleness: -1, SpillLimit: -1, FailoverWait: 30 * time.Second}
}

// keep has pools keep their connections, and use them without asking.
func keep(_ string, config *pgxpool.Config) error {
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	return nil
}

// connect opens a connection past all that is tested.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// count returns how many messages of this text a server has, asked past pgtide.
func count(t *testing.T, n *lab.Node, text string) (count int) {
	t.Helper()
	conn := connect(t, n.DSN())
	if err := conn.QueryRow(t.Context(), "select count(*) from message where text = $1", text).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

// last returns the newest decision of ctx's session.
func last(t *testing.T, ctx context.Context) pgtide.Decision {
	t.Helper()
	all := pgtide.Explain(ctx)
	if len(all) == 0 {
		t.Fatal("the session has no decisions")
	}
	return all[len(all)-1]
}

// status returns what db knows of a node.
func status(t *testing.T, db *pgtide.DB, n *lab.Node) pgtide.NodeStatus {
	t.Helper()
	for _, s := range db.Nodes() {
		if s.Name == n.Name() {
			return s
		}
	}
	t.Fatalf("there is no node %s", n.Name())
	return pgtide.NodeStatus{}
}

// lsn reads a position.
func lsn(t *testing.T, text string) uint64 {
	t.Helper()
	var high, low uint64
	if _, err := fmt.Sscanf(text, "%X/%X", &high, &low); err != nil {
		t.Fatalf("position %q: %v", text, err)
	}
	return high<<32 | low
}

// until polls for a state of real servers, which send no signal.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
