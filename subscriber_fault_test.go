package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// account writes an account in a session of its own and reads it again. It returns
// where it was read.
func account(t *testing.T, db *pgtide.DB, id int) pgtide.Decision {
	t.Helper()
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "insert into account values ($1, 'ann')", id); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow(ctx, "select count(*) from account where id = $1", id).Scan(&n); err != nil {
		t.Fatal(err)
	}
	d := last(t, ctx)
	if n != 1 {
		t.Errorf("account %d is missing right after it was written: %v", id, d)
	}
	return d
}

// served waits until reads right after a write are served by the subscriber.
func (f *fed) served(t *testing.T, db *pgtide.DB, id *int) {
	t.Helper()
	until(t, "the subscriber to serve again", func() bool {
		*id++
		return account(t, db, *id).Role == pgtide.RoleSubscriber
	})
}

func TestSubscriberThatDoesNotApply(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{WaitBudget: 20 * time.Millisecond})
	id := 0
	f.served(t, db, &id)
	for _, fault := range []struct {
		name   string
		break_ func() (mend func())
		err    string
	}{
		{"disabled", func() func() {
			super(t, f.far, "alter subscription shop disable")
			return func() { super(t, f.far, "alter subscription shop enable") }
		}, "disabled"},
		{"locked", func() func() {
			conn, err := pgx.Connect(t.Context(), strings.Replace(f.far.Primary().SuperDSN(), "/postgres", "/app", 1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "begin; lock table account in share row exclusive mode"); err != nil {
				t.Fatal(err)
			}
			return func() { conn.Close(t.Context()) }
		}, ""},
	} {
		mend := fault.break_()
		if fault.err != "" {
			until(t, "the fault to be seen", func() bool { return strings.Contains(status(db, "far").Err, fault.err) })
		}
		for range 20 {
			id++
			if d := account(t, db, id); d.Role == pgtide.RoleSubscriber {
				t.Errorf("%s: %v, want the primary", fault.name, d)
			}
		}
		ctx := pgtide.NewSession(t.Context())
		if _, err := db.Exec(ctx, "insert into account values ($1, '')", -id); err != nil {
			t.Fatal(err)
		}
		_, err := db.Exec(pgtide.OnNode(ctx, "far"), "select from account")
		if !errors.Is(err, pgtide.ErrNoFreshReplica) || !strings.Contains(err.Error(), fault.err) {
			t.Errorf("%s: read on the subscriber: %v, want ErrNoFreshReplica and why", fault.name, err)
		}
		mend()
		f.served(t, db, &id)
	}
}

func TestSubscriberRefusesWrites(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{})
	on := pgtide.OnNode(t.Context(), "far")
	insert := "insert into account values (1, 'ann')"
	var pg *pgconn.PgError
	if _, err := db.Exec(on, insert); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("an insert on the subscriber: %v, want SQLSTATE 25006", err)
	}
	if _, err := db.BeginTx(on, pgx.TxOptions{AccessMode: pgx.ReadWrite}); err == nil || !strings.Contains(err.Error(), "only read from") {
		t.Errorf("a transaction that writes: %v, want it refused", err)
	}
	tx, err := db.Begin(on)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"set transaction read write", "set default_transaction_read_only = off"} {
		if _, err := tx.Exec(on, sql); err == nil {
			t.Errorf("%s on the subscriber is not refused", sql)
		}
	}
	if _, err := tx.Exec(on, "set local work_mem = '1MB'"); err != nil {
		t.Error(err)
	}
	if _, err := tx.Exec(on, insert); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("an insert in a transaction on the subscriber: %v, want SQLSTATE 25006", err)
	}
	if err := tx.Rollback(on); err != nil {
		t.Fatal(err)
	}
}

func TestSubscriberLacksColumnsAndTables(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	super(t, f.Cluster, "alter table pair add column extra int default 5", "create table fresh (id int)", "grant all on fresh to app",
		"create type mood as enum ('bad', 'good')", "create function twice(int) returns int immutable language sql as 'select 2 * $1'")
	db := f.open(t, pgtide.Options{})
	for _, c := range []struct {
		sql  string
		role pgtide.Role
		then pgtide.Role
	}{
		{"select * from account", pgtide.RoleSubscriber, pgtide.RoleSubscriber},
		{"select * from pair", pgtide.RolePrimary, pgtide.RolePrimary},         // it has another shape
		{"select count(*) from fresh", pgtide.RolePrimary, pgtide.RolePrimary}, // the subscriber has not heard of it
		{"select 'bad'::mood", pgtide.RolePrimary, pgtide.RolePrimary},
		{"select twice(2)", pgtide.RolePrimary, pgtide.RolePrimary},
	} {
		for i := range 2 {
			ctx := pgtide.NewSession(t.Context())
			if _, err := db.Exec(ctx, c.sql); err != nil {
				t.Errorf("%s: %v", c.sql, err)
				continue
			}
			if d := last(t, ctx); d.Role != c.role || i == 1 && d.Attempt != 1 {
				t.Errorf("%s, call %d: %v at attempt %d, want the %s, at once the second time", c.sql, i+1, d, d.Attempt, c.role)
			}
		}
	}
	// A right that was not given there is no less lacking.
	super(t, f.far, "revoke select on account from app")
	if _, err := db.Exec(t.Context(), "select id from account"); err != nil {
		t.Error(err)
	}
}

func TestPublicationsThatChange(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{WaitBudget: 10 * time.Second})
	id := 0
	for _, c := range []struct{ change, back string }{
		{"alter publication shop drop table account", "alter publication shop add table account"},
		{"alter publication shop set table " + strings.Replace(published, "account", "account where (id < 0)", 1), "alter publication shop set table " + published},
		{"alter publication shop set table " + strings.Replace(published, "account", "account (id)", 1), "alter publication shop set table " + published},
		{"alter publication shop set (publish = 'update, delete, truncate')", "alter publication shop set (publish = 'insert, update, delete, truncate')"},
	} {
		f.served(t, db, &id)
		super(t, f.Cluster, c.change)
		for range 10 {
			id++
			if d := account(t, db, id); d.Role == pgtide.RoleSubscriber {
				t.Errorf("%s: %v, want the primary", c.change, d)
			}
		}
		super(t, f.Cluster, c.back)
		super(t, f.far, "alter subscription shop refresh publication")
	}
	f.served(t, db, &id)
}

func TestBigTransactions(t *testing.T) {
	t.Parallel()
	for _, streaming := range []string{"off", "on", "parallel"} {
		t.Run(streaming, func(t *testing.T) {
			t.Parallel()
			f := feed(t, lab.Options{Settings: map[string]string{"logical_decoding_work_mem": "64kB"}}, "")
			if streaming == "parallel" && f.far.Version() < "16" || f.Version() < "16" {
				streaming = "on"
			}
			super(t, f.far, "alter subscription shop set (streaming = "+streaming+")")
			db := f.open(t, pgtide.Options{})
			const rows = 20000
			id := 10 * rows
			for turn := range 3 {
				ctx := pgtide.NewSession(t.Context())
				tx, err := db.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 4 {
					from := turn*rows + i*rows/4
					if _, err := tx.Exec(ctx, "insert into account select n, 'big' from generate_series($1::bigint, $2) n", from, from+rows/4-1); err != nil {
						t.Fatal(err)
					}
					id++
					account(t, db, id) // in the midst of it
				}
				if err := tx.Commit(ctx); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					var n int
					if err := db.QueryRow(ctx, "select count(*) from account where owner = 'big'").Scan(&n); err != nil {
						t.Fatal(err)
					}
					if n != (turn+1)*rows {
						t.Fatalf("%d rows after turn %d: %v, want %d", n, turn, last(t, ctx), (turn+1)*rows)
					}
				}
			}
			f.served(t, db, &id)
		})
	}
}

func TestSubscriberRestarts(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{})
	id := 0
	f.served(t, db, &id)
	server := f.far.Primary()
	for _, away := range []func(context.Context) error{server.Stop, server.Kill} {
		if err := away(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			id++
			if d := account(t, db, id); d.Role == pgtide.RoleSubscriber {
				t.Errorf("read with the subscriber away: %v", d)
			}
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.served(t, db, &id)
	}
	// One of its processes crashes: the server goes on, having lost what was not
	// flushed.
	for range 3 {
		var worker int
		if err := db.QueryRow(pgtide.OnNode(t.Context(), "far"), "select pid from pg_stat_subscription where relid is null").Scan(&worker); err != nil {
			t.Fatal(err)
		}
		process, err := os.FindProcess(worker)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			id++
			account(t, db, id)
		}
		f.served(t, db, &id)
	}
}

func TestSubscriberTokenOfAnotherProcess(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	one, two := f.open(t, pgtide.Options{}), f.open(t, pgtide.Options{WaitBudget: 10 * time.Second})
	there := 0
	for i := range 20 {
		ctx := pgtide.NewSession(t.Context())
		if _, err := one.Exec(ctx, "insert into account values ($1, 'ann')", i); err != nil {
			t.Fatal(err)
		}
		token, _ := pgtide.TokenFrom(ctx)
		text, err := token.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var carried pgtide.Token
		if err := carried.UnmarshalText(text); err != nil {
			t.Fatal(err)
		}
		other := pgtide.WithToken(t.Context(), carried)
		var n int
		if err := two.QueryRow(other, "select count(*) from account where id = $1", i).Scan(&n); err != nil {
			t.Fatal(err)
		}
		d := last(t, other)
		if n != 1 {
			t.Errorf("account %d seen %d times elsewhere: %v", i, n, d)
		}
		if d.Role == pgtide.RoleSubscriber {
			there++
		}
		until(t, "the token to be settled", func() bool { return two.Settled(carried) })
	}
	if there == 0 {
		t.Error("the subscriber served none of them")
	}
}

func TestSubscriberIsMonotonic(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{Replicas: 1}, "")
	db := f.open(t, pgtide.Options{Consistency: pgtide.Session})
	if _, err := db.Exec(t.Context(), "insert into account values (1, '0')"); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	failed := make(chan error, 1)
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	go func() {
		for i := 1; done.Err() == nil; i++ {
			if _, err := db.Exec(context.WithoutCancel(done), "update account set owner = $1 where id = 1", fmt.Sprint(i)); err != nil {
				failed <- err
				return
			}
			<-pace.C
		}
		failed <- nil
	}()
	roles := map[pgtide.Role]int{}
	ctx, seen := pgtide.NewSession(t.Context()), 0
	for turn := 0; done.Err() == nil; turn++ {
		where := ctx
		switch {
		case turn%50 == 0:
			where = pgtide.OnPrimary(ctx)
		case turn%3 == 0:
			where = pgtide.OnGroup(ctx, "analytics")
		}
		var text string
		if err := db.QueryRow(where, "select owner from account where id = 1").Scan(&text); err != nil {
			t.Fatal(err)
		}
		d := last(t, ctx)
		roles[d.Role]++
		var n int
		// A commit that is on its way through the primary may be elsewhere already.
		if _, err := fmt.Sscan(text, &n); err != nil || n < seen && d.Role != pgtide.RolePrimary {
			t.Fatalf("the session was shown %d and then %q: %v", seen, text, d)
		}
		seen = max(seen, n)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	t.Logf("reads by role: %v", roles)
	if roles[pgtide.RoleSubscriber] == 0 {
		t.Error("the subscriber served none")
	}
}

func TestOpenWithASubscriptionThatIsNone(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	all := f.nodes()
	all[len(all)-1].Subscription = "other"
	db := open(t, f.Cluster, pgtide.Options{Nodes: all})
	if s := status(db, "far"); s.State != "down" || !strings.Contains(s.Err, `no subscription "other"`) {
		t.Errorf("the node is %s: %s; want it down, and why", s.State, s.Err)
	}
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.Exec(ctx, "select count(*) from account"); err != nil || last(t, ctx).Reason != pgtide.ReasonNoReplica {
		t.Errorf("a read: %v, %v", last(t, ctx), err)
	}
}
