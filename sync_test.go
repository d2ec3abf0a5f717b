package pgtide_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// setting changes a setting of a running server.
func setting(t *testing.T, n *lab.Node, name, value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), n.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{"alter system set " + name + " = '" + value + "'", "select pg_reload_conf()"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	until(t, name+" to be "+value, func() bool {
		var now string
		if err := conn.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&now); err != nil {
			t.Fatal(err)
		}
		return now == value
	})
}

// The guarantees say what is not promised with a synchronous standby: others
// show a commit that still waits for it, and the primary does not.
func TestStandbyShowsItFirst(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{Consistency: pgtide.Session})
	shows, holds := c.Replicas()[0], c.Replicas()[1]
	setting(t, c.Primary(), "synchronous_standby_names", holds.Name())
	if err := holds.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	waiting, giveUp := context.WithCancel(t.Context())
	committed := make(chan error, 1)
	go func() {
		_, err := db.Exec(waiting, "insert into message (text) values ('waits for its standby')")
		committed <- err
	}()
	ctx := pgtide.NewSession(t.Context())
	count := func(ctx context.Context) (n int) {
		t.Helper()
		err := db.QueryRow(ctx, "select count(*) from message where text = 'waits for its standby'").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the other standby to show what waits", func() bool { return count(pgtide.OnNode(ctx, shows.Name())) == 1 })
	// As long as the session stays away from the primary, nothing goes back.
	for range 20 {
		if count(ctx) != 1 {
			t.Fatalf("the session saw the row and lost it: %v", pgtide.Explain(ctx))
		}
	}
	if n := count(pgtide.OnPrimary(ctx)); n != 0 {
		t.Errorf("the primary shows %d rows before the synchronous standby has it: then the guarantees promise too little", n)
	}
	select {
	case err := <-committed:
		t.Errorf("the commit ended without its standby: %v", err)
	default:
	}
	if err := holds.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
	giveUp()
	if n := count(pgtide.OnPrimary(ctx)); n != 1 {
		t.Errorf("the primary shows %d rows after the commit", n)
	}
}

// With remote_apply every listed standby has a write when it returns.
func TestRemoteApplyNeedsNoWait(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	listed, other := c.Replicas()[0], c.Replicas()[1]
	setting(t, c.Primary(), "synchronous_standby_names", listed.Name())
	setting(t, c.Primary(), "synchronous_commit", "remote_apply")
	if err := other.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	direct, err := pgx.Connect(t.Context(), listed.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(t.Context())
	for range 50 {
		ctx := pgtide.NewSession(t.Context())
		id := insert(t, ctx, db, "applied")
		var n int
		if err := direct.QueryRow(t.Context(), "select count(*) from message where id = $1", id).Scan(&n); err != nil || n != 1 {
			t.Fatalf("the listed standby shows %d rows when the write has returned (%v)", n, err)
		}
		read(t, ctx, db, id)
		if d := last(t, ctx); d.Node == other.Name() {
			t.Fatalf("read from the standby that replays nothing: %v", d)
		}
	}
}
