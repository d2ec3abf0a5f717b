package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func TestFailover(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	read(t, ctx, db, insert(t, ctx, db, "before"))
	old, next := c.Primary(), c.Replicas()[0]
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}

	if err := old.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		// Sent into the gap: it waits for the new primary.
		_, err := db.Exec(ctx, "insert into message (text) values ('during')")
		written <- err
	}()
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatalf("write while there was no primary: %v; decisions %v", err, pgtide.Explain(ctx))
	}
	if err := pgtide.Lost(ctx); err != nil {
		t.Errorf("nothing was lost, and the session was told: %v", err)
	}
	token, _ := pgtide.TokenFrom(ctx)
	if token.Timeline() != 2 {
		t.Errorf("token after the failover: %v, want timeline 2", token)
	}
	for range 20 {
		read(t, ctx, db, insert(t, ctx, db, "after"))
	}

	// The old primary comes back by itself, on the old timeline.
	if err := old.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the old primary to be seen", func() bool {
		for _, n := range db.Nodes() {
			if n.Name == old.Name() {
				return n.State == "up" && n.Role == pgtide.RolePrimary
			}
		}
		return false
	})
	for range 20 {
		read(t, ctx, db, insert(t, ctx, db, "with the old primary back"))
	}
	for _, d := range pgtide.Explain(ctx) {
		if d.Node == old.Name() {
			t.Errorf("a call went to the old primary after its return: %v", d)
		}
	}
	// Nor by its name.
	_, err := db.Exec(pgtide.OnNode(ctx, old.Name()), "insert into message (text) values ('by name')")
	if !errors.Is(err, pgtide.ErrNodeDown) || last(t, ctx).Reason != pgtide.ReasonOvertaken {
		t.Errorf("a write to the old primary by its name: %v, %v", err, last(t, ctx))
	}
}

func TestLostWriteIsTold(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	told := make(chan *pgtide.WriteLostError, 16)
	db := open(t, c, pgtide.Options{Hooks: pgtide.Hooks{OnWriteLost: func(err *pgtide.WriteLostError) { told <- err }}})
	keeper := pgtide.NewSession(t.Context())
	kept := insert(t, keeper, db, "replicated")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Replicas() {
		if err := n.Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	loser := pgtide.NewSession(t.Context())
	lost := insert(t, loser, db, "acknowledged and lost")
	carried, _ := pgtide.TokenFrom(loser)
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := c.Replicas()[0]
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	// So much is written that the old position looks replayed by its number.
	if _, err := db.Exec(t.Context(), "insert into message (text) select repeat('x', 1000) from generate_series(1, 3000)"); err != nil {
		t.Fatal(err)
	}

	var n int
	if err := db.QueryRow(loser, "select count(*) from message where id = $1 and text like 'ack%'", lost).Scan(&n); err != nil {
		t.Fatal(err)
	}
	var loss *pgtide.WriteLostError
	if err := pgtide.Lost(loser); !errors.Is(err, pgtide.ErrWriteLost) || !errors.As(err, &loss) {
		t.Fatalf("Lost after a failover without the write: %v (%d rows), want a WriteLostError", err, n)
	}
	if !loss.Token.Equal(carried) || loss.Timeline != 2 || loss.Switch == "0/0" {
		t.Errorf("lost: %v, want token %v and timeline 2", loss, carried)
	}
	if err := <-told; err.Error() != loss.Error() {
		t.Errorf("the hook was told %v", err)
	}
	if got := db.Stat().WritesLost; got != 1 {
		t.Errorf("WritesLost = %d, want 1", got)
	}
	// The session goes on, and whoever has its token is told as well.
	read(t, loser, db, insert(t, loser, db, "after the loss"))
	other := pgtide.WithToken(t.Context(), carried)
	if _, err := db.Exec(other, "select 1"); err != nil {
		t.Fatal(err)
	}
	if err := pgtide.Lost(other); !errors.Is(err, pgtide.ErrWriteLost) {
		t.Errorf("a session with the lost token: %v, want ErrWriteLost", err)
	}
	alone := open(t, c, pgtide.Options{Nodes: []pgtide.Node{{Name: next.Name(), DSN: next.DSN()}}})
	if alone.Settled(carried) {
		t.Error("a token that was lost is Settled where the primary is the only node")
	}
	// What was replicated before the failover is not lost.
	read(t, keeper, db, kept)
	if err := pgtide.Lost(keeper); err != nil {
		t.Errorf("a session whose write was kept was told: %v", err)
	}
}

func TestSplitBrainRefusesWrites(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	id := insert(t, ctx, db, "before")
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Both replicas are promoted on their own, each to timeline 2.
	for _, n := range c.Nodes()[1:] {
		conn, err := pgx.Connect(t.Context(), n.SuperDSN())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "select pg_promote()"); err != nil {
			t.Fatal(err)
		}
		conn.Close(t.Context())
	}
	until(t, "the split brain to be seen", func() bool {
		_, err := db.Exec(ctx, "insert into message (text) values ('refused')")
		if err == nil {
			return false // written before the second promotion was seen
		}
		if !errors.Is(err, pgtide.ErrSplitBrain) {
			t.Fatalf("write with two primaries: %v, want ErrSplitBrain", err)
		}
		return true
	})
	for _, n := range db.Nodes() {
		if n.Writable {
			t.Errorf("node %s is called writable during a split brain", n.Name)
		}
	}
	// One of them stops: the other is the primary.
	if err := c.Nodes()[2].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "writes to go on", func() bool {
		_, err := db.Exec(ctx, "insert into message (text) values ('after')")
		return err == nil
	})
	read(t, ctx, db, id)
}

func TestNoPrimary(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{FailoverWait: 200 * time.Millisecond, FailoverQueue: 5})
	ctx := pgtide.NewSession(t.Context())
	if err := c.Primary().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "insert into message (text) values ('x')"); !errors.Is(err, pgtide.ErrNoPrimary) {
		t.Errorf("write without a primary: %v, want ErrNoPrimary", err)
	}
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Errorf("read without a primary: %v, want the replica to serve it", err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := db.Exec(short, "insert into message (text) values ('x')"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write without a primary until a deadline: %v, want DeadlineExceeded", err)
	}
}

func TestWritesAreNeverRunTwice(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	var acknowledged, unknown sync.Map
	var stop atomic.Bool
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := 0; !stop.Load(); i++ {
				text := fmt.Sprintf("%d-%d", worker, i)
				_, err := db.Exec(pgtide.NewSession(t.Context()), "insert into message (text) values ($1)", text)
				switch {
				case err == nil:
					acknowledged.Store(text, true)
				case pgtide.OutcomeUnknown(err):
					unknown.Store(text, true)
				default:
					t.Errorf("insert: %v", err)
					return
				}
			}
		})
	}
	// The primary crashes under load and starts again, three times.
	for range 3 {
		before := db.Stat().Decisions[pgtide.ReasonWrite]
		until(t, "some writes", func() bool { return db.Stat().Decisions[pgtide.ReasonWrite] > before+200 })
		if err := c.Primary().Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes()[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	group.Wait()
	rows, err := db.Query(pgtide.OnPrimary(t.Context()), "select text, count(*) from message group by text")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	var text string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&text, &n}, func() error { found[text] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	for text, n := range found {
		if n != 1 {
			t.Errorf("%s was written %d times", text, n)
		}
	}
	acknowledged.Range(func(text, _ any) bool {
		if found[text.(string)] == 0 {
			t.Errorf("%s was acknowledged and is gone", text)
		}
		return true
	})
	t.Logf("%d rows, %d of unknown outcome, stat %+v", len(found), size(&unknown), db.Stat().Decisions)
}

func size(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{FailoverWait: time.Hour})
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	insert(t, ctx, db, "what the replica lacks")
	token, _ := pgtide.TokenFrom(ctx)
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the primary to be called down", func() bool { return db.Nodes()[0].State == "down" })
	ended := make(chan error, 2)
	go func() { ended <- db.WaitFor(t.Context(), token) }()
	go func() {
		_, err := db.Exec(t.Context(), "insert into message (text) values ('x')")
		ended <- err
	}()
	// One of them waits for sure when the nodes are probed as often as may be.
	before := db.Stat().Nodes[1].Probes
	until(t, "a call to wait", func() bool { return db.Stat().Nodes[1].Probes > before+20 })
	db.Close()
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, pgtide.ErrClosed) {
				t.Errorf("call that waited when the DB was closed: %v, want ErrClosed", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a call still waits after Close")
		}
	}
}

func TestWriteOfUnknownPositionIsNotLostInSilence(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	// With an hour between probes no sample covers what is written through
	// Acquire, which is not stamped.
	db := open(t, c, pgtide.Options{ProbeInterval: time.Hour, ProbeTimeout: 10 * time.Second})
	replica := c.Replicas()[0]
	if err := replica.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := pgtide.NewSession(t.Context())
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	insert(t, ctx, conn, "acknowledged and lost")
	conn.Release()
	carried, _ := pgtide.TokenFrom(ctx)
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), replica.Name()); err != nil {
		t.Fatal(err)
	}
	for name, ctx := range map[string]context.Context{"the session": ctx, "another with its token": pgtide.WithToken(t.Context(), carried)} {
		if _, err := db.Exec(pgtide.OnPrimary(ctx), "select 1"); err != nil {
			t.Fatal(err)
		}
		if err := pgtide.Lost(ctx); !errors.Is(err, pgtide.ErrWriteLost) {
			t.Errorf("%s was told %v, want ErrWriteLost", name, err)
		}
	}
}

func TestReadsGoOnWithoutAPrimary(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{MaxStaleness: 100 * time.Millisecond, FailoverWait: 200 * time.Millisecond})
	if err := c.Primary().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be older than MaxStaleness", func() bool {
		n := db.Nodes()
		return n[0].State == "down" && n[1].Staleness > 200*time.Millisecond
	})
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Errorf("read without a primary: %v, want the replica to serve it", err)
	}
	bounded := pgtide.WithConsistency(ctx, pgtide.BoundedStaleness(100*time.Millisecond))
	if _, err := db.Exec(bounded, "select 1"); !errors.Is(err, pgtide.ErrNoFreshReplica) {
		t.Errorf("read that bounds staleness without a primary: %v, want ErrNoFreshReplica", err)
	}
}

func TestSpillLimit(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{SpillLimit: 1, FailoverWait: 200 * time.Millisecond, WaitBudget: -1})
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	insert(t, ctx, db, "what the replica lacks")
	rows, err := db.Query(ctx, "select 1")
	if err != nil {
		t.Fatal(err)
	}
	// The one place is taken by whoever asks: it must not wait for ever.
	if _, err := db.Exec(ctx, "select 2"); !errors.Is(err, pgtide.ErrNoFreshReplica) {
		t.Errorf("second read at the primary: %v, want ErrNoFreshReplica", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := db.Exec(ctx, "select 3")
		waiting <- err
	}()
	rows.Close()
	if err := <-waiting; err != nil {
		t.Errorf("read after the place became free: %v", err)
	}
}
