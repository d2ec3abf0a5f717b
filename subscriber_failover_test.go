package pgtide_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// refeed has the subscription follow the primary of now, from there on.
func (f *fed) refeed(t *testing.T) {
	t.Helper()
	super(t, f.Cluster, "select pg_create_logical_replication_slot('shop', 'pgoutput')")
	super(t, f.far, fmt.Sprintf("alter subscription shop connection '%s'", from(f.Primary())))
}

// A subscriber that the old primary feeds has nothing of what is written to the new
// one, whatever the numbers say.
func TestSubscriberAfterAFailover(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"the old primary is gone", "the old primary goes on"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := feed(t, lab.Options{Replicas: 1}, "")
			super(t, f.far, "grant execute on function pg_show_replication_origin_status() to app")
			db := f.open(t, pgtide.Options{})
			id := 0
			f.served(t, db, &id)
			old, next := f.Primary(), f.Replicas()[0]
			if err := f.WaitCaughtUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			if way == "the old primary is gone" {
				if err := old.Kill(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Promote(t.Context(), next.Name()); err != nil {
				t.Fatal(err)
			}
			until(t, "the new primary", func() bool { return status(db, next.Name()).Writable })
			if way != "the old primary is gone" {
				// Its log goes far beyond the switch, and the subscriber follows.
				superOn(t, old, "insert into account select n, 'lost' from generate_series(1000000, 1020000) n")
			}
			for range 20 {
				id++
				if d := account(t, db, id); d.Role == pgtide.RoleSubscriber {
					t.Errorf("read right after a write to the new primary: %v", d)
				}
			}
			if way == "the old primary is gone" {
				super(t, f.far, "truncate account") // what was written before there was a slot is not sent
				super(t, f.Cluster, "truncate account")
				f.refeed(t)
				f.served(t, db, &id)
				return
			}
			until(t, "the subscriber to have what is lost", func() bool {
				var n int
				on := pgtide.WithConsistency(pgtide.OnNode(t.Context(), "far"), pgtide.Eventual)
				return db.QueryRow(on, "select count(*) from account where owner = 'lost'").Scan(&n) == nil && n > 0
			})
			f.refeed(t)
			until(t, "the subscriber to be found out", func() bool {
				s := status(db, "far")
				return s.State == "foreign" && strings.Contains(s.Err, "failover")
			})
		})
	}
}

func TestSubscriberWithWhatAFailoverLost(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{Replicas: 1}, "")
	db := f.open(t, pgtide.Options{})
	id := 0
	f.served(t, db, &id)
	if err := f.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, next := f.Primary(), f.Replicas()[0]
	if err := next.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.served(t, db, &id) // it has what the replica has not
	lost := id
	if err := old.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	until(t, "the new primary", func() bool { return status(db, next.Name()).Writable })
	f.refeed(t)
	until(t, "the subscriber to be found out", func() bool {
		s := status(db, "far")
		return s.State == "foreign" && strings.Contains(s.Err, "failover has lost") && strings.Contains(s.Err, `"far"`)
	})
	for range 20 {
		ctx := pgtide.NewSession(t.Context())
		var n int
		if err := db.QueryRow(ctx, "select count(*) from account where id = $1", lost).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); n != 0 || d.Role == pgtide.RoleSubscriber {
			t.Errorf("what was lost is read %d times: %v", n, d)
		}
	}
	super(t, f.far, "alter subscription shop disable", "alter subscription shop set (slot_name = none)", "drop subscription shop",
		"truncate message, pair, account, part_low")
	super(t, f.Cluster, "select pg_drop_replication_slot('shop')")
	super(t, f.far, fmt.Sprintf("create subscription shop connection '%s' publication shop", from(f.Primary())))
	f.served(t, db, &id)
}
