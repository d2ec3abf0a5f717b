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

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// fed is a cluster and a subscriber of it.
type fed struct {
	*lab.Cluster
	far *lab.Cluster // the subscriber, a server of its own
}

// subscriberSchema is on both sides; only some of it is published.
const subscriberSchema = `
create table account (id bigint primary key, owner text);
create table filtered (id bigint primary key, kept boolean not null);
create table secret (id bigint primary key, text text);
create table mixed (id bigint primary key, text text);
create sequence counter;
create view owners as select owner from account;
create view both_sides as select a.owner, s.text from account a left join secret s using (id);
create view stat as select relname from pg_class;
create function owners_of() returns bigint language sql as 'select count(*) from account';
create materialized view old_owners as select owner from account;
create table part (id bigint primary key) partition by range (id);
create table part_low partition of part for values from (0) to (100);
create table part_high partition of part for values from (100) to (200);
`

// published are the tables of the publication, those of start's schema too.
const published = "message, pair, account, part_low"

// feed starts a cluster of the test's own and a subscriber of it.
func feed(t *testing.T, o lab.Options, with string) *fed {
	t.Helper()
	if o.Settings == nil {
		o.Settings = map[string]string{}
	}
	o.Settings["wal_level"] = "logical"
	f := &fed{Cluster: start(t, o)}
	super(t, f.Cluster, subscriberSchema, "grant all on all tables in schema public to app", "grant all on all sequences in schema public to app",
		"create publication shop for table "+published)
	f.far = subscriber(t, f.Cluster, os.Getenv("PGTIDE_PGBIN_OTHER"), with)
	return f
}

// subscriber starts a server that subscribes to the primary of c.
func subscriber(t *testing.T, c *lab.Cluster, bin, with string) *lab.Cluster {
	t.Helper()
	far, err := lab.Start(t.Context(), lab.Options{BinDir: bin, Settings: map[string]string{"wal_retrieve_retry_interval": "100ms"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	})
	super(t, far, schema, subscriberSchema, "grant all on all tables in schema public to app", "grant all on all sequences in schema public to app",
		fmt.Sprintf("create subscription shop connection '%s' publication shop %s", from(c.Primary()), with))
	return far
}

// from is where a subscription finds a node.
func from(n *lab.Node) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=app", n.Port())
}

func super(t *testing.T, c *lab.Cluster, statements ...string) {
	t.Helper()
	superOn(t, c.Primary(), statements...)
}

// superOn runs statements as the superuser in the application's database.
func superOn(t *testing.T, n *lab.Node, statements ...string) {
	t.Helper()
	config, err := pgx.ParseConfig(n.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "app"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// nodes lists the cluster's nodes and the subscriber, which is called "far".
func (f *fed) nodes() []pgtide.Node {
	return append(nodes(f.Cluster), pgtide.Node{Name: "far", DSN: f.far.Primary().DSN(), Subscription: "shop", Groups: []string{"analytics"}})
}

// open opens a DB on all of it and waits until the subscriber can be used.
func (f *fed) open(t *testing.T, o pgtide.Options) *pgtide.DB {
	t.Helper()
	o.Nodes = f.nodes()
	db := open(t, f.Cluster, o)
	f.ready(t, db)
	return db
}

// ready waits until the subscriber serves a session that has written.
func (f *fed) ready(t *testing.T, db *pgtide.DB) {
	t.Helper()
	until(t, "the subscriber to be fresh", func() bool {
		s := status(db, "far")
		return s.Role == pgtide.RoleSubscriber && s.Staleness >= 0 && s.Staleness < time.Second
	})
	token, err := db.CurrentToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := db.WaitFor(ctx, token); err != nil {
		t.Fatal(err)
	}
	until(t, "the subscriber's tables to be copied", func() bool {
		return db.QueryRow(pgtide.OnNode(t.Context(), "far"), "select count(*) from message, account, part_low").Scan(new(int)) == nil
	})
}

func status(db *pgtide.DB, name string) pgtide.NodeStatus {
	for _, n := range db.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return pgtide.NodeStatus{}
}

func TestSubscriberServesWhatItHas(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{})
	ctx := pgtide.NewSession(t.Context())
	stale, there := 0, 0
	for i := range 100 {
		if _, err := db.Exec(ctx, "insert into account values ($1, 'ann')", i); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.QueryRow(ctx, "select count(*) from account where id = $1", i).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != 1 {
			stale++
		}
		if last(t, ctx).Role == pgtide.RoleSubscriber {
			there++
		}
	}
	t.Logf("%d of 100 reads right after a write were served by the subscriber", there)
	if stale > 0 || there == 0 {
		t.Errorf("%d of 100 reads missed their own write, %d were served by the subscriber", stale, there)
	}
}

func TestSubscriberIsOnlyAskedForWhatItHas(t *testing.T) {
	t.Parallel()
	f := feed(t, lab.Options{}, "")
	db := f.open(t, pgtide.Options{WaitBudget: 10 * time.Second})
	far, primary := "far", f.Primary().Name()
	for _, c := range []struct{ sql, want string }{
		{"select count(*) from account", far},
		{`select count(*) from public."account" a`, far},
		{"select count(*) from owners", far},
		{"select count(*) from part_low", far},
		{"table account", far},
		{"select 1", far},
		{"with t as (select 1) select count(*) from t, account", far},
		{"select count(*) from secret", primary},
		{"SELECT count(*) FROM public.Secret", primary},
		{"select count(*) from account where id in (select id from secret)", primary},
		{"select count(*) from both_sides", primary},
		{"select count(*) from part", primary},
		{"select count(*) from part_high", primary},
		{"select count(*) from old_owners", primary},
		{"select last_value from counter", primary},
		{"select count(*) from stat", primary},
		{"select count(*) from pg_class", primary},
		{"select count(*) from information_schema.tables", primary},
		{"select count(*) from account where ctid is null", primary},
		{"select count(*) from account where 'account'::regclass::oid = 0", primary},
		{"select pg_relation_size('account')", primary},
		{"select owners_of()", primary},
		{"select owner from account for share", primary},
		{"select pg_stat_get_db_numbackends(1)", primary},
	} {
		for _, session := range []context.Context{pgtide.NewSession(t.Context()), pgtide.OnReplica(pgtide.NewSession(t.Context())), pgtide.OnGroup(pgtide.NewSession(t.Context()), "analytics")} {
			if _, err := db.Exec(session, c.sql); err != nil {
				t.Errorf("%s: %v", c.sql, err)
				continue
			}
			if d := last(t, session); d.Node != c.want {
				t.Errorf("%s: %v, want %s", c.sql, d, c.want)
			}
		}
	}
	for _, c := range []struct {
		sql   string
		names string
	}{
		{"select count(*) from account", ""},
		{"select count(*) from account, secret", `"secret"`},
		{"select count(*) from both_sides", `"both_sides"`},
		{"select owners_of()", "function"},
	} {
		on := pgtide.OnNode(pgtide.NewSession(t.Context()), far)
		tx, err := db.BeginTx(on, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		if err != nil {
			t.Fatal(err)
		}
		_, errTx := tx.Exec(on, c.sql)
		_ = tx.Rollback(on)
		_, errExec := db.Exec(on, c.sql)
		var batch pgx.Batch
		batch.Queue("select 1")
		batch.Queue(c.sql)
		errBatch := db.SendBatch(on, &batch).Close()
		errConn := db.AcquireFunc(on, func(conn *pgtide.Conn) error {
			_, err := conn.Exec(on, c.sql)
			return err
		})
		for how, err := range map[string]error{"tx": errTx, "exec": errExec, "batch": errBatch, "conn": errConn} {
			switch {
			case c.names == "" && err != nil:
				t.Errorf("%s by %s on the subscriber: %v", c.sql, how, err)
			case c.names != "" && (!errors.Is(err, pgtide.ErrNotPublished) || !strings.Contains(err.Error(), c.names) || !strings.Contains(err.Error(), far)):
				t.Errorf("%s by %s on the subscriber: %v, want ErrNotPublished, %s and the node", c.sql, how, err, c.names)
			}
		}
		if _, err := db.Exec(pgtide.WithConsistency(on, pgtide.Eventual), c.sql); err != nil {
			t.Errorf("%s on the subscriber as it is: %v", c.sql, err)
		}
	}
	// A transaction goes there only by its name or its group's.
	for _, c := range []struct {
		ctx  context.Context
		role pgtide.Role
	}{
		{t.Context(), pgtide.RolePrimary},
		{pgtide.OnReplica(t.Context()), pgtide.RolePrimary},
		{pgtide.OnGroup(t.Context(), "analytics"), pgtide.RoleSubscriber},
		{pgtide.OnNode(t.Context(), far), pgtide.RoleSubscriber},
	} {
		ctx := pgtide.NewSession(c.ctx)
		tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Role != c.role {
			t.Errorf("a transaction that is read only: %v, want the %s", d, c.role)
		}
	}
}
