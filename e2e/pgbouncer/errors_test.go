package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

const insert = "insert into message (text) values ($1)"

// once makes sure that a message is there as often as it was acknowledged, or not
// more than once if nobody knows.
func (s *stand) once(t *testing.T, text string, err error) {
	t.Helper()
	n := count(t, s.Primary(), text)
	if err == nil && n != 1 || n > 1 || err != nil && !pgtide.OutcomeUnknown(err) && n != 0 {
		t.Errorf("the message %q is there %d times, its write having ended with: %v", text, n, err)
	}
}

// slow runs a statement that takes a while and returns once a server has it.
func (s *stand) slow(t *testing.T, super *pgx.Conn, mark string, run func() error) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- run() }()
	until(t, mark+" to be under way", func() bool {
		var n int
		const running = "select count(*) from pg_stat_activity where state = 'active' and query like '%' || $1 || '%' and pid <> pg_backend_pid()"
		if err := super.QueryRow(t.Context(), running, mark).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
	return result
}

// A write that waited in the pooler for a server connection was given to nobody:
// it is made again, and once.
func TestWriteThatWaitedTooLong(t *testing.T) {
	s := start(t, map[string]string{"default_pool_size": "1", "query_wait_timeout": "1"})
	nodes := s.nodes()
	for i, n := range s.Nodes() {
		nodes[i].ProbeDSN = n.DSN() // or the primary would count as down, and the write would not be sent
	}
	o := patient()
	o.Nodes = nodes
	db := s.open(t, o)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // if it is not yet
	result := make(chan error, 1)
	go func() {
		_, err := db.Exec(pgtide.NewSession(t.Context()), insert, "waits")
		result <- err
	}()
	until(t, "the write to be refused once", func() bool { return db.Stat().Retries > 0 })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-result
	if err != nil {
		t.Errorf("Exec returns %v", err)
	}
	s.once(t, "waits", err)
}

// A read that a pooler has no room for is served elsewhere.
func TestNoMoreConnections(t *testing.T) {
	s := start(t, nil)
	replica := s.Replicas()[0]
	b := s.of(replica)
	b.settings["max_client_conn"] = "2"
	b.stop()
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := patient()
	o.Nodes = []pgtide.Node{s.nodes()[0], {Name: replica.Name(), DSN: b.dsn()}}
	db := s.open(t, o) // the probe is one of the two
	connect(t, b.dsn()+"&default_query_exec_mode=exec")
	for i := range 5 {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Errorf("read %d: %v", i, err)
		}
		if all := pgtide.Explain(ctx); all[len(all)-1].Role != pgtide.RolePrimary {
			t.Errorf("read %d: decisions %v", i, all)
		}
	}
	// The primary's is the caller's to know, as a server's own limit is.
	p := s.of(s.Primary())
	p.settings["max_client_conn"] = "1"
	p.stop()
	until(t, "the primary to be gone", func() bool { return db.Nodes()[0].State == "down" }) // the probe is to have the only place
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the primary to be seen again", func() bool { return db.Nodes()[0].State == "up" })
	if _, err := db.Exec(t.Context(), insert, "no room"); err == nil || !strings.Contains(err.Error(), "no more connections") {
		t.Errorf("a write returns %v", err)
	}
}

// The server connection under a statement ends, each in its way: a read is made
// again, a write never.
func TestServerConnectionEnds(t *testing.T) {
	s := start(t, nil)
	db := s.open(t, patient())
	replica := s.Replicas()[0]
	onReplica := connect(t, replica.SuperDSN())
	onPrimary := connect(t, s.Primary().SuperDSN())
	terminate := func(t *testing.T, conn *pgx.Conn, mark string) {
		t.Helper()
		const kill = "select pg_terminate_backend(pid) from pg_stat_activity where query like '%' || $1 || '%' and pid <> pg_backend_pid()"
		if _, err := conn.Exec(t.Context(), kill, mark); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range s.Replicas()[1:] {
		if err := other.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "the other replica to be down", func() bool { return status(t, db, other).State == "down" })
	}

	ctx := pgtide.NewSession(t.Context())
	result := s.slow(t, onReplica, "read1", func() error {
		_, err := db.Exec(ctx, "select pg_sleep(1) /* read1 */")
		return err
	})
	terminate(t, onReplica, "read1")
	if err := <-result; err != nil {
		t.Errorf("a read whose backend was terminated: %v", err)
	}
	if all := pgtide.Explain(ctx); all[0].Node != replica.Name() || len(all) < 2 {
		t.Errorf("decisions %v, want the replica first and another attempt", all)
	}

	result = s.slow(t, onPrimary, "write1", func() error {
		_, err := db.Exec(t.Context(), "insert into message (text) select $1 from pg_sleep(1) /* write1 */", "write1")
		return err
	})
	terminate(t, onPrimary, "write1")
	err := <-result
	if !errors.Is(err, pgtide.ErrOutcomeUnknown) {
		t.Errorf("a write whose backend was terminated: %v", err)
	}
	s.once(t, "write1", err)

	until(t, "the replica to be up", func() bool { return status(t, db, replica).State == "up" })
	ctx = pgtide.NewSession(t.Context())
	result = s.slow(t, onReplica, "read2", func() error {
		_, err := db.Exec(ctx, "select pg_sleep(1) /* read2 */")
		return err
	})
	if err := replica.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("a read whose server was killed: %v", err)
	}
	if all := pgtide.Explain(ctx); all[0].Node != replica.Name() || all[len(all)-1].Role != pgtide.RolePrimary {
		t.Errorf("decisions %v, want the replica first and the primary last", all)
	}

	result = s.slow(t, onPrimary, "write2", func() error {
		_, err := db.Exec(t.Context(), "insert into message (text) select $1 from pg_sleep(1) /* write2 */", "write2")
		return err
	})
	if err := s.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = <-result
	if !errors.Is(err, pgtide.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "server conn crashed?") {
		t.Errorf("a write whose server was killed: %v", err)
	}
	// A write that comes now waits in the pooler, or for the watcher: it is sent
	// to nobody before there is somebody.
	waiting := make(chan error, 1)
	go func() {
		_, err := db.Exec(t.Context(), insert, "write3")
		waiting <- err
	}()
	until(t, "the primary to be down", func() bool { return status(t, db, s.Nodes()[0]).State == "down" })
	if err := s.Nodes()[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	err3 := <-waiting
	if err3 != nil {
		t.Errorf("a write that came while the server was down: %v", err3)
	}
	s.once(t, "write2", err)
	s.once(t, "write3", err3)
}

// A paused pooler says nothing. Its node is down for the watcher, and calls that
// are caught wait as long as their context lets them.
func TestPause(t *testing.T) {
	s := start(t, nil)
	o := patient()
	o.ProbeInterval, o.ProbeTimeout = 50*time.Millisecond, 300*time.Millisecond
	db := s.open(t, o)
	for _, r := range s.Replicas() {
		if _, err := db.Exec(pgtide.OnNode(t.Context(), r.Name()), "select 1"); err != nil {
			t.Fatal(err)
		}
		s.of(r).must(t, "pause")
	}
	caught, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.Exec(pgtide.OnReplica(caught), "select 1"); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read that is caught: %v", err)
	}
	for _, r := range s.Replicas() {
		until(t, "the paused replica to be down", func() bool { return status(t, db, r).State == "down" })
	}
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil || last(t, ctx).Role != pgtide.RolePrimary {
		t.Errorf("a read then: %v, %v", err, pgtide.Explain(ctx))
	}
	for _, r := range s.Replicas() {
		s.of(r).must(t, "resume")
		until(t, "the replica to be up", func() bool { return status(t, db, r).State == "up" })
	}

	// A write that is caught waits, and is done once.
	s.of(s.Primary()).must(t, "pause")
	result := make(chan error, 1)
	go func() {
		_, err := db.Exec(t.Context(), insert, "caught")
		result <- err
	}()
	until(t, "the paused primary to be down", func() bool { return status(t, db, s.Primary()).State == "down" })
	s.of(s.Primary()).must(t, "resume")
	err := <-result
	if err != nil {
		t.Errorf("a write that was caught: %v", err)
	}
	s.once(t, "caught", err)
}

// The pooler itself may come and go.
func TestPoolerEnds(t *testing.T) {
	s := start(t, nil)
	o := patient()
	o.ProbeInterval = 50 * time.Millisecond
	db := s.open(t, o)
	for i := range 4 {
		for _, n := range s.Nodes() {
			until(t, "every pool to have a connection", func() bool {
				_, err := db.Exec(pgtide.OnNode(t.Context(), n.Name()), "select 1")
				return err == nil
			})
		}
		r, p := s.of(s.Replicas()[0]), s.of(s.Primary())
		how := []string{"reload", "killed", "reconnect", "killed"}[i]
		for _, b := range []*bouncer{r, p} {
			if how != "killed" {
				b.must(t, how)
				continue
			}
			b.stop()
		}
		if _, err := db.Exec(pgtide.NewSession(t.Context()), "select 1"); err != nil {
			t.Errorf("%s: a read: %v", how, err)
		}
		text := fmt.Sprintf("%s %d", how, i)
		result := make(chan error, 1)
		go func() {
			_, err := db.Exec(pgtide.NewSession(t.Context()), insert, text)
			result <- err
		}()
		for _, b := range []*bouncer{r, p} {
			if b.process == nil {
				until(t, "the node to be down", func() bool { return status(t, db, b.node).State == "down" })
				if err := b.start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := <-result
		if err != nil {
			t.Errorf("%s: a write: %v", how, err)
		}
		s.once(t, text, err)
		for _, b := range []*bouncer{r, p} {
			until(t, "the node to be up", func() bool { return status(t, db, b.node).State == "up" })
		}
	}
}

// What the console's KILL ends may have been done.
func TestKilledDatabase(t *testing.T) {
	s := start(t, nil)
	db := s.open(t, patient())
	onPrimary := connect(t, s.Primary().SuperDSN())
	result := s.slow(t, onPrimary, "write1", func() error {
		_, err := db.Exec(t.Context(), "insert into message (text) select $1 from pg_sleep(1) /* write1 */", "write1")
		return err
	})
	s.of(s.Primary()).must(t, "kill app")
	err := <-result
	if !errors.Is(err, pgtide.ErrOutcomeUnknown) {
		t.Errorf("a write that the pooler has dropped: %v", err)
	}
	s.of(s.Primary()).must(t, "resume app")
	until(t, "the primary to be up", func() bool { return status(t, db, s.Primary()).State == "up" })
	_, err2 := db.Exec(t.Context(), insert, "write2")
	if err2 != nil {
		t.Error(err2)
	}
	s.once(t, "write1", err)
	s.once(t, "write2", err2)
}
