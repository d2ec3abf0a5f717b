package lab_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

const countRows = "select count(*) from t"

// pair is a primary with table t, and one replica that has it.
func pair(t *testing.T) (c *lab.Cluster, primary, replica *lab.Node) {
	t.Helper()
	c = start(t, lab.Options{Replicas: 1})
	primary, replica = c.Primary(), c.Replicas()[0]
	exec1(t, primary.DSN(), "create table t (i int)")
	must(t, c.WaitCaughtUp(testContext(t)))
	return c, primary, replica
}

// soon is a context for what is expected not to happen.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestApplyDelay(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, primary, replica := pair(t)
	const delay = 700 * time.Millisecond
	must(t, replica.SetApplyDelay(ctx, delay))
	if got := statusOf(t, c, replica.Name()).ApplyDelayMS; got != delay.Milliseconds() {
		t.Errorf("apply delay: got %d ms, want %d", got, delay.Milliseconds())
	}
	wrote := time.Now()
	exec1(t, primary.DSN(), "insert into t values (1)")
	must(t, c.WaitCaughtUp(ctx))
	if took := time.Since(wrote); took < delay {
		t.Errorf("the row was applied after %s, want at least %s", took, delay)
	}
	if got := query[int](t, replica.DSN(), countRows); got != 1 {
		t.Errorf("rows after the delay: got %d, want 1", got)
	}

	// Ending an hour's delay lets a row through that is already held back.
	must(t, replica.SetApplyDelay(ctx, time.Hour))
	exec1(t, primary.DSN(), "insert into t values (2)")
	wantError(t, c.WaitCaughtUp(soon(t)), replica.Name(), "bytes behind", "delayed by 1h0m0s", "deadline")
	must(t, replica.SetApplyDelay(ctx, 0))
	must(t, c.WaitCaughtUp(ctx))

	// A stopped node takes it with its next start.
	must(t, replica.Stop(ctx))
	must(t, replica.SetApplyDelay(ctx, 2*time.Second))
	must(t, replica.Start(ctx))
	if got := query[string](t, replica.DSN(), "show recovery_min_apply_delay"); got != "2s" {
		t.Errorf("apply delay after the start: got %s, want 2s", got)
	}
	wantError(t, primary.SetApplyDelay(ctx, delay), primary.Name(), "not a replica")
	wantError(t, replica.SetApplyDelay(ctx, -delay), replica.Name(), "not between")
	wantError(t, replica.SetApplyDelay(ctx, 1000*time.Hour), replica.Name(), "not between")
}

func TestPauseAndResumeReplay(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, primary, replica := pair(t)
	must(t, replica.PauseReplay(ctx))
	if !statusOf(t, c, replica.Name()).Paused {
		t.Error("status does not say paused")
	}
	exec1(t, primary.DSN(), "insert into t values (1)")
	wantError(t, c.WaitCaughtUp(soon(t)), replica.Name(), "bytes behind", "paused")
	if got := query[int](t, replica.DSN(), countRows); got != 0 {
		t.Errorf("rows while paused: got %d, want 0", got)
	}
	if got := statusOf(t, c, replica.Name()).BytesBehind; got <= 0 {
		t.Errorf("bytes behind while paused: got %d, want more than 0", got)
	}
	must(t, replica.ResumeReplay(ctx))
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, replica.DSN(), countRows); got != 1 {
		t.Errorf("rows after resuming: got %d, want 1", got)
	}
	wantError(t, primary.PauseReplay(ctx), primary.Name(), "not a replica")
}

func TestCutAndHeal(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, primary, replica := pair(t)
	must(t, replica.Cut(ctx))
	exec1(t, primary.DSN(), "insert into t values (1)")
	wantError(t, c.WaitCaughtUp(soon(t)), replica.Name(), "bytes behind", "cut")
	if got := query[int](t, replica.DSN(), countRows); got != 0 {
		t.Errorf("rows while cut: got %d, want 0", got)
	}
	// The link stays cut over a restart.
	must(t, replica.Stop(ctx))
	must(t, replica.Start(ctx))
	if st := statusOf(t, c, replica.Name()); !st.Cut || st.Streaming {
		t.Errorf("got status %+v, want it cut and not streaming", st)
	}
	must(t, replica.Heal(ctx))
	if st := statusOf(t, c, replica.Name()); st.Cut || !st.Streaming {
		t.Errorf("got status %+v, want it streaming", st)
	}
	must(t, c.WaitCaughtUp(ctx))

	// Without a running primary there is nothing to wait for.
	must(t, replica.Cut(ctx))
	must(t, primary.Kill(ctx))
	must(t, replica.Heal(ctx))
	must(t, primary.Start(ctx))
	must(t, c.WaitCaughtUp(ctx))
}

func TestStopStartAndKill(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, primary, replica := pair(t)
	pid := statusOf(t, c, primary.Name()).PID
	backends, err := family(pid)
	must(t, err)
	if len(backends) < 3 {
		t.Fatalf("got %d processes below the primary, want several", len(backends))
	}
	exec1(t, primary.DSN(), "insert into t values (1)")
	must(t, primary.Kill(ctx))
	if living := alive(t, append(backends, pid)); living != "" {
		t.Errorf("processes after the kill:\n%s", living)
	}
	if st := statusOf(t, c, primary.Name()); st.State != lab.Stopped || st.Role != lab.RolePrimary {
		t.Errorf("got status %+v, want a stopped primary", st)
	}
	must(t, primary.Kill(ctx)) // nothing to do
	must(t, primary.Stop(ctx))
	must(t, primary.Start(ctx))
	must(t, primary.Start(ctx))
	if got := query[int](t, primary.DSN(), countRows); got != 1 {
		t.Errorf("rows after kill and start: got %d, want 1", got)
	}
	must(t, c.WaitCaughtUp(ctx))

	must(t, replica.Stop(ctx))
	if _, err := tryQuery[int](ctx, replica.DSN(), countRows); err == nil {
		t.Error("a stopped replica answers")
	}
	exec1(t, primary.DSN(), "insert into t values (2)")
	must(t, c.WaitCaughtUp(ctx)) // stopped nodes are not waited for
	wantError(t, replica.PauseReplay(ctx), replica.Name(), "stopped", "start it")
	wantError(t, replica.Freeze(ctx), replica.Name(), "stopped")
	must(t, replica.Start(ctx))
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, replica.DSN(), countRows); got != 2 {
		t.Errorf("rows on the replica: got %d, want 2", got)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, primary, replica := pair(t)
	conn, err := pgx.Connect(ctx, replica.DSN())
	must(t, err)
	defer conn.Close(ctx)
	must(t, replica.Freeze(ctx))
	must(t, replica.Freeze(ctx))
	if st := statusOf(t, c, replica.Name()); st.State != lab.Frozen || st.Role != lab.RoleReplica || st.BytesBehind != -1 {
		t.Errorf("got status %+v, want a frozen replica of unknown position", st)
	}
	if _, err := conn.Exec(soon(t), "select 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("query on a frozen server: got %v, want no answer", err)
	}
	exec1(t, primary.DSN(), "insert into t values (1)")
	wantError(t, c.WaitCaughtUp(soon(t)), replica.Name(), "bytes behind", "frozen")
	for _, err := range []error{replica.Stop(ctx), replica.Start(ctx), replica.PauseReplay(ctx), replica.Cut(ctx), c.Promote(ctx, replica.Name())} {
		wantError(t, err, replica.Name(), "frozen", "thaw it")
	}
	must(t, replica.Thaw(ctx))
	must(t, replica.Thaw(ctx))
	must(t, c.WaitCaughtUp(ctx))

	// A clean stop of the primary has to wait for a frozen replica.
	must(t, replica.Freeze(ctx))
	exec1(t, primary.DSN(), "insert into t values (2)")
	wantError(t, primary.Stop(soon(t)), primary.Name(), "frozen replicas", "log")
	must(t, primary.Kill(ctx))
	must(t, replica.Kill(ctx)) // frozen or not
	must(t, primary.Start(ctx))
	must(t, replica.Start(ctx))
	must(t, c.WaitCaughtUp(ctx))
}

func TestErrorsHoldTheLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, err := lab.Start(ctx, lab.Options{Settings: map[string]string{"shared_buffers": "nonsense"}})
	wantError(t, err, "start node1", "server ended", `invalid value for parameter "shared_buffers": "nonsense"`)

	_, primary, _ := pair(t)
	exec1(t, primary.SuperDSN(), "do $$ begin raise warning 'mark in the log'; end $$")
	eventually(t, 5*time.Second, "the warning in the log", func() bool {
		return strings.Contains(strings.Join(primary.Log(5), "\n"), "WARNING:  mark in the log")
	})
	if got := len(primary.Log(2)); got != 2 {
		t.Errorf("Log(2): got %d lines, want 2", got)
	}
}
