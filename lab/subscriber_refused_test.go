package lab_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

func TestSubscriberRefused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{Replicas: 1})
	primary := c.Primary()
	exec1(t, primary.DSN(), "create table t (i int); create table u (i int primary key, s text default 'x')")
	must(t, c.SetSynchronous(ctx, lab.SyncOff)) // from the first change on there is a lock file
	before := listing(t, c.Dir())
	must(t, os.Mkdir(filepath.Join(c.Dir(), "thesis"), 0o755))
	exec1(t, primary.SuperDSN(), "create publication taken for all tables")
	exec1(t, primary.SuperDSN(), "select pg_create_logical_replication_slot('busy', 'pgoutput')")
	boom := errors.New("boom")
	for _, test := range []struct {
		o     lab.SubscriberOptions
		words []string
	}{
		{lab.SubscriberOptions{Name: "Node"}, []string{`"Node"`, "small letters"}},
		{lab.SubscriberOptions{Name: "node9"}, []string{`"node9"`}},
		{lab.SubscriberOptions{Name: "initdb"}, []string{`"initdb"`}},
		{lab.SubscriberOptions{Name: "thesis"}, []string{"thesis", "exists"}},
		{lab.SubscriberOptions{Subscription: "has-dash"}, []string{`"has-dash"`}},
		{lab.SubscriberOptions{Publication: "a\nb"}, []string{"one line"}},
		{lab.SubscriberOptions{BinDir: c.Dir()}, []string{"initdb and postgres"}},
		{lab.SubscriberOptions{Tables: []string{"t", "no_such"}}, []string{"no table no_such"}},
		{lab.SubscriberOptions{Publication: "taken", Tables: []string{"t"}}, []string{"taken", "name no tables"}},
		{lab.SubscriberOptions{Name: "taken"}, []string{"publication taken"}},
		{lab.SubscriberOptions{Subscription: "busy"}, []string{"node1", "slot busy"}},
		{lab.SubscriberOptions{Schema: func(context.Context, *pgx.Conn) error { return boom }}, []string{"make the schema", "boom"}},
	} {
		_, err := c.AddSubscriber(ctx, test.o)
		wantError(t, err, append(test.words, "add a subscriber")...)
	}

	// A table that cannot be copied is one to wait for, until the caller has
	// had enough.
	waiting, enough := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() {
		_, err := c.AddSubscriber(waiting, lab.SubscriberOptions{Schema: func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "create table t (different int)")
			return err
		}})
		failed <- err
	}()
	eventually(t, 30*time.Second, "a failed copy in the log", func() bool {
		text, _ := os.ReadFile(filepath.Join(c.Dir(), "subscriber1", "server.log")) // not there at first
		return strings.Contains(string(text), "missing replicated column")
	})
	enough()
	wantError(t, <-failed, "add a subscriber: subscriber1", "t", "not copied yet", "canceled", "last log lines", "missing replicated column")

	// Nothing is left of any of them, neither here nor on the primary.
	must(t, os.Remove(filepath.Join(c.Dir(), "thesis")))
	withoutServers := func(list string) string {
		var kept []string
		for line := range strings.Lines(list) {
			if !strings.Contains(line, "/data/") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	if got, want := withoutServers(listing(t, c.Dir())), withoutServers(before); got != want {
		t.Errorf("the folder holds\n%swant\n%s", got, want)
	}
	if got := query[string](t, primary.SuperDSN(), `select concat_ws(' ', (select string_agg(pubname, ',') from pg_publication),
		(select string_agg(slot_name, ',') from pg_replication_slots), (select relreplident from pg_class where oid = 'public.t'::regclass))`, pgx.QueryExecModeSimpleProtocol); got != "taken busy d" {
		t.Errorf("publications, slots and replica identity on the primary: got %s, want taken, busy and the default", got)
	}
	if got := len(c.Nodes()); got != 2 {
		t.Errorf("nodes: got %d, want 2", got)
	}

	must(t, primary.Stop(ctx))
	_, err := c.AddSubscriber(ctx, lab.SubscriberOptions{})
	wantError(t, err, "node1", "stopped")

	physical := start(t, lab.Options{Settings: map[string]string{"wal_level": "replica"}})
	_, err = physical.AddSubscriber(ctx, lab.SubscriberOptions{})
	wantError(t, err, "node1", "wal_level replica", "logical")
	if _, err := os.Stat(filepath.Join(physical.Dir(), "subscriber1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder of the subscriber: got %v, want none", err)
	}
}
