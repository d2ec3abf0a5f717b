package pgbouncer

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// A replica that is killed and started again may show less than it did before: it
// opens as soon as it is consistent. Without a pooler its connections break with
// it, and new ones have to prove where they lead. Through one they live on. With an
// hour between probes nobody but the read itself can tell.
func TestRestartedReplicaIsNotBelieved(t *testing.T) {
	s := start(t, nil)
	replica := s.Replicas()[0]
	o := patient()
	o.ProbeInterval, o.ProbeTimeout, o.Configure = time.Hour, 10*time.Second, keep
	o.Nodes = []pgtide.Node{
		{Name: s.Primary().Name(), DSN: s.of(s.Primary()).dsn()},
		{Name: replica.Name(), DSN: s.of(replica).dsn()},
	}
	// A DB for each way to read: the first refusal has the node looked at again.
	type reader struct {
		read
		db      *pgtide.DB
		std     *sql.DB
		token   pgtide.Token
		before  string // where its DB believes the replica to be
		dialled int64
	}
	const text = "seen before the restart"
	setup, _ := s.open2(t, o)
	// From here on it replays again.
	for _, n := range []*lab.Node{s.Primary(), replica} {
		if _, err := connect(t, n.SuperDSN()).Exec(t.Context(), "checkpoint"); err != nil {
			t.Fatal(err)
		}
		if err := s.WaitCaughtUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx := pgtide.NewSession(t.Context())
	if _, err := setup.Exec(ctx, "insert into message (text) values ($1)", text); err != nil {
		t.Fatal(err)
	}
	token, _ := pgtide.TokenFrom(ctx)
	if err := s.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	var readers []*reader
	for _, r := range reads {
		db, std := s.open2(t, o)
		ctx := pgtide.WithToken(t.Context(), token)
		if found, err := r.do(ctx, db, std, text); err != nil || !found || last(t, ctx).Role != pgtide.RoleReplica {
			t.Fatalf("%s before the restart: found %v, %v, %v", r.what, found, err, pgtide.Explain(ctx))
		}
		readers = append(readers, &reader{r, db, std, token, status(t, db, replica).LSN, db.Stat().Nodes[1].Pool.NewConnsCount()})
	}
	// What it has received it replays again, an hour late.
	if err := replica.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := replica.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := replica.SetApplyDelay(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := replica.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, replica, text); n != 0 {
		t.Fatalf("the restarted replica shows %d messages: nothing would be proven", n)
	}
	through := connect(t, s.of(replica).dsn()+"&default_query_exec_mode=exec")
	until(t, "the pooler to have the server again", func() bool {
		if through.IsClosed() {
			through = connect(t, s.of(replica).dsn()+"&default_query_exec_mode=exec")
		}
		_, err := through.Exec(t.Context(), "select 1")
		return err == nil
	})
	unseen := 0
	for _, r := range readers {
		if now := status(t, r.db, replica); now.State != "up" || lsn(t, now.LSN) < lsn(t, r.before) {
			t.Logf("%s: the replica is %s at %s: a probe has seen the restart, and this shows nothing", r.what, now.State, now.LSN)
			continue
		}
		unseen++
		ctx := pgtide.WithToken(t.Context(), r.token)
		found, err := r.do(ctx, r.db, r.std, text)
		if err != nil || !found {
			t.Errorf("%s: found %v, %v", r.what, found, err)
		}
		all := pgtide.Explain(ctx)
		if all[0].Node != replica.Name() {
			t.Errorf("%s: decisions %v, want the replica to be asked first", r.what, all)
		}
		if last := all[len(all)-1]; last.Role != pgtide.RolePrimary && last.Reason != pgtide.ReasonPinned {
			t.Errorf("%s: decisions %v, want the primary to serve it in the end", r.what, all)
		}
		if n := r.db.Stat().Nodes[1].Pool.NewConnsCount(); n != r.dialled {
			t.Errorf("%s: %d new connections were made: not the old one was put to the test", r.what, n-r.dialled)
		}
	}
	// Looked at again it is a replica like any other that lags.
	if err := replica.SetApplyDelay(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := replica.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := readers[0].db
	if err := db.WaitFor(t.Context(), token, replica.Name()); err != nil {
		t.Fatal(err)
	}
	again := pgtide.WithToken(t.Context(), token)
	if found, err := reads[0].do(again, db, nil, text); err != nil || !found || last(t, again).Role != pgtide.RoleReplica {
		t.Errorf("looked at again: found %v, %v, %v", found, err, pgtide.Explain(again))
	}
	if unseen < len(readers)/2 {
		t.Errorf("probes have seen the restart for all but %d of %d readers", unseen, len(readers))
	}
}

// A read of a restarted replica that is asked by name fails: nobody else was
// wanted, and it cannot be known to be right.
func TestRestartedReplicaByName(t *testing.T) {
	s := start(t, nil)
	replica := s.Replicas()[0]
	o := patient()
	o.ProbeInterval, o.ProbeTimeout, o.Configure = time.Hour, 10*time.Second, keep
	db := s.open(t, o)
	ctx := pgtide.OnNode(t.Context(), replica.Name())
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	if err := replica.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := replica.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "select 1"); err == nil {
		t.Error("a read of the restarted replica was served unseen")
	}
	token, err := db.CurrentToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the replica to be known again", func() bool {
		if err := db.WaitFor(t.Context(), token, replica.Name()); err != nil { // looks at one that is down
			t.Fatal(err)
		}
		_, err := db.Exec(ctx, "select 1")
		return err == nil
	})
}

// The probe may take another way than the calls. What it finds is believed of
// the server at its end alone.
func TestProbePastThePooler(t *testing.T) {
	s := start(t, map[string]string{"default_pool_size": "1"})
	nodes := s.nodes()
	for i, n := range s.Nodes() {
		nodes[i].ProbeDSN = n.DSN()
	}
	o := patient()
	o.Nodes, o.ProbeInterval, o.ProbeTimeout = nodes, 20*time.Millisecond, 200*time.Millisecond
	db := s.open(t, o)
	// The only server connection is taken for longer than a probe may last.
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	probes := db.Stat().Nodes[0].Probes
	until(t, "thirty probes", func() bool {
		if n := db.Nodes()[0]; n.State != "up" || !n.Writable {
			t.Fatalf("the busy primary counts as %+v", n)
		}
		return db.Stat().Nodes[0].Probes > probes+30
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if _, err := db.Exec(pgtide.OnNode(t.Context(), n.Name), "select 1"); err != nil {
			t.Errorf("node %s: %v", n.Name, err)
		}
	}
	for _, n := range db.Nodes() {
		if !n.Pooled {
			t.Errorf("node %s does not count as pooled", n.Name)
		}
	}
}

// A ProbeDSN of another replica would have its position stand for this one's.
func TestProbeOfAnotherServer(t *testing.T) {
	s := start(t, nil)
	nodes := s.nodes()[:2]
	nodes[1].ProbeDSN = s.Nodes()[2].DSN()
	db := s.open(t, pgtide.Options{Nodes: nodes})
	for i := range 5 {
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Errorf("read %d: %v", i, err)
		}
		if d := last(t, ctx); d.Role != pgtide.RolePrimary {
			t.Errorf("read %d was served by %s, whose state nobody has seen", i, d.Node)
		}
	}
	_, err := db.Exec(pgtide.OnNode(t.Context(), nodes[1].Name), "select 1")
	if err == nil {
		t.Error("a read of the node was served")
	}
	if err != nil && !strings.Contains(err.Error(), "ProbeDSN") {
		t.Errorf("error %v, want it to name the cause", err)
	}
}
