package pgtideredis_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtideredis"
)

// Reads of a cluster whose replica has stopped replaying see what another
// process wrote for the same user, and miss what nobody says they must see.
func TestCluster(t *testing.T) {
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
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "create table invoice (owner text)"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Replicas()[0].PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	socket := pgtideredis.StartServer(t)
	process := func() (*pgtide.DB, *pgtideredis.Store) {
		db, err := pgtide.Open(t.Context(), pgtide.Options{DSN: c.DSN(), MaxStaleness: -1, WaitBudget: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, ContextTimeoutEnabled: true})
		t.Cleanup(func() { client.Close() })
		return db, pgtideredis.New(db, pgtideredis.Options{Client: client, Timeout: 10 * time.Second})
	}

	db, store := process()
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "insert into invoice values ('u')"); err != nil {
		t.Fatal(err)
	}
	token, _ := pgtide.TokenFrom(ctx)
	if err := store.Raise(ctx, "u", token, time.Minute); err != nil {
		t.Fatal(err)
	}

	db, store = process()
	for user, want := range map[string]int{"u": 1, "control": 0} {
		token, err := store.Load(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		err = db.QueryRow(pgtide.WithToken(t.Context(), token), "select count(*) from invoice where owner = 'u'").Scan(&n)
		if err != nil || n != want {
			t.Errorf("with the token of %q a read sees %d rows, %v; want %d", user, n, err, want)
		}
	}
}
