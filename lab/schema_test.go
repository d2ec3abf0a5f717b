package lab_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// structure is all of the tables that a subscriber is to have too, as text.
const structure = `with t as (select c.*, format('%I.%I', nspname, relname) as name from pg_class as c join pg_namespace as s on s.oid = c.relnamespace
		where relkind in ('r', 'p') and nspname !~ '^pg_' and nspname <> 'information_schema')
	select coalesce(string_agg(line, e'\n' order by line collate "C"), '') from (
		select format('%s.%s %s%s%s %s', name, attname, format_type(atttypid, atttypmod), case when attnotnull then ' not null' end,
			' collate ' || (select collname from pg_collation where oid = attcollation), nullif(attgenerated::text, '') || pg_get_expr(adbin, adrelid)) as line
			from t join pg_attribute as a on a.attrelid = t.oid and attnum > 0 and not attisdropped
			left join pg_attrdef on adrelid = t.oid and adnum = attnum and attgenerated <> ''
		union all select format('%s %s %s', name, conname, pg_get_constraintdef(c.oid)) from t join pg_constraint as c on c.conrelid = t.oid and contype in ('p', 'u', 'x')
		union all select replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') || case when indisreplident then ' identity' else '' end
			from t join pg_index on indrelid = t.oid where not (relkind = 'p' and not exists (select from pg_constraint where conindid = indexrelid))
		union all select format('%s %s of %s %s', name, case relkind when 'p' then 'by ' || pg_get_partkeydef(t.oid) end, inhparent::regclass, pg_get_expr(relpartbound, t.oid))
			from t left join pg_inherits on inhrelid = t.oid
		union all select format('%s of %s for %s', name, case pg_get_userbyid(relowner) when 'app' then 'app' end, has_table_privilege('app', t.oid, 'select')) from t) as lines (line)`

func TestSchemaCopy(t *testing.T) {
	t.Parallel()
	for name, bin := range versions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			c := start(t, lab.Options{BinDir: bin.primary})
			primary := c.Primary()
			exec1(t, primary.SuperDSN(), `create schema "my shop" authorization app; create schema hidden;
				create table hidden.secret (i int primary key); create table public.shown (i int primary key); grant select on public.shown to app;
				create extension if not exists plpgsql`)
			exec1(t, primary.DSN(), `
				create type "my shop".mood as enum ('so so', 'it''s fine', 'happy');
				create domain "my shop".word as varchar(20) collate "C" check (value <> '');
				create domain word_again as "my shop".word not null;
				create table "my shop"."Order" (id bigint generated always as identity primary key, dropped int, mood "my shop".mood not null default 'happy',
					moods "my shop".mood[], word word_again, "Quoted "" name" numeric(10, 2), total numeric generated always as ("Quoted "" name" * 2) stored,
					place text collate "C", unique (place, word), check (id > 0));
				alter table "my shop"."Order" drop column dropped;
				create index on "my shop"."Order" (lower(place)) where id > 10;
				create table item (id serial, "order" bigint references "my shop"."Order", key uuid not null, note text);
				create unique index by_key on item (key);
				alter table item replica identity using index by_key;
				create table part (id int, region text, at date, primary key (id, region, at)) partition by list (region);
				create table part_eu partition of part for values in ('eu', 'it''s') partition by range (at);
				create table part_eu_old partition of part_eu for values from (minvalue) to ('2020-01-01');
				create table part_eu_new partition of part_eu for values from ('2020-01-01') to (maxvalue);
				create table part_rest partition of part default;
				create index on part (at);
				create table parent (i int primary key); create table child (j int) inherits (parent);
				create table nothing ();
				create unlogged table fleeting (i int);
				create view seen as select * from part;
				insert into "my shop"."Order" (mood, moods, word, "Quoted "" name", place) values ('it''s fine', '{happy,so so}', 'word', 1.5, 'here');
				insert into item ("order", key, note) values (1, '00000000-0000-0000-0000-000000000001', 'a');
				insert into part select i, case when i % 3 = 0 then 'eu' else 'us' end, date '2019-12-01' + i from generate_series(1, 90) as i;
				insert into parent values (1); insert into child values (2, 3)`)
			sub := subscriber(t, c, lab.SubscriberOptions{BinDir: bin.subscriber})
			want := query[string](t, primary.SuperDSN(), structure)
			var kept []string // an unlogged table cannot be published
			for line := range strings.Lines(want + "\n") {
				if !strings.Contains(line, "fleeting") {
					kept = append(kept, line)
				}
			}
			got := strings.SplitAfter(query[string](t, sub.SuperDSN(), structure)+"\n", "\n")
			for _, line := range kept {
				if !slices.Contains(got, line) {
					t.Errorf("missing on the subscriber: %s", line)
				}
			}
			for _, line := range got {
				if line != "" && !slices.Contains(kept, line) {
					t.Errorf("more on the subscriber: %s", line)
				}
			}
			if len(kept) < 60 {
				t.Errorf("got %d lines of structure, want many", len(kept))
			}

			const content = `select concat_ws(' ', (select o::text from "my shop"."Order" as o), (select count(*) || ',' || string_agg(note, ',') from item),
				(select count(*) || ',' || sum(id) from part), (select count(*) from part_eu_old), (select count(*) from parent), (select sum(j) from child))`
			compare := func(when string) {
				t.Helper()
				must(t, c.WaitCaughtUp(ctx))
				if got, want := query[string](t, sub.DSN(), content), query[string](t, primary.DSN(), content); got != want {
					t.Errorf("content %s: got %s, want %s", when, got, want)
				}
			}
			compare("after the initial copy")
			exec1(t, primary.DSN(), `update "my shop"."Order" set mood = 'so so'; update item set note = 'b'; delete from part where id = 3;
				update part set at = '2021-01-01' where id = 6; insert into child values (5, 6); update child set j = j + 1`)
			compare("after changes")
		})
	}
}

func TestSubscriberTables(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{})
	primary := c.Primary()
	exec1(t, primary.DSN(), `create table a (i int); create table b (i int); insert into a values (1); insert into b values (1);
		create schema s; create table s."B b" (i int primary key); insert into s."B b" values (1)`)
	wantTables := func(n *lab.Node, want string) {
		t.Helper()
		if got := query[string](t, n.SuperDSN(), "select string_agg(oid::regclass::text, ' ' order by oid::regclass::text) from pg_class where relkind = 'r' and relnamespace::regnamespace::text in ('public', 's')"); got != want {
			t.Errorf("tables of %s: got %s, want %s", n.Name(), got, want)
		}
	}

	// Some tables, all of them, and what a publication of the user's says.
	exec1(t, primary.SuperDSN(), "create publication news for table b with (publish = 'insert')")
	var some, all, news *lab.Node
	var added sync.WaitGroup
	for node, o := range map[**lab.Node]lab.SubscriberOptions{
		&some: {Name: "some", Tables: []string{"a", `s."B b"`}},
		&all:  {},
		&news: {Name: "news", Publication: "news", Subscription: "reads_news"},
	} {
		added.Go(func() {
			var err error
			if *node, err = c.AddSubscriber(ctx, o); err != nil {
				t.Error(err)
			}
		})
	}
	if added.Wait(); t.Failed() {
		t.FailNow()
	}
	wantTables(some, `a s."B b"`)
	wantTables(all, `a b s."B b"`)
	wantTables(news, "b")
	if got := query[string](t, primary.SuperDSN(), "select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots"); got != "reads_news some subscriber1" {
		t.Errorf("slots: got %s", got)
	}
	exec1(t, primary.DSN(), "insert into a values (2); update a set i = i + 1; insert into b values (2)")
	must(t, c.WaitCaughtUp(ctx))
	for n, want := range map[*lab.Node]string{some: "select sum(i) from a", all: "select sum(i) from a", news: "select sum(i) + 2 from b"} {
		if got := query[int](t, n.DSN(), want); got != 5 {
			t.Errorf("%s on %s: got %d, want 5", want, n.Name(), got)
		}
	}

	// A new table stops nobody, and joins where all are published.
	exec1(t, primary.DSN(), "create table late (i int); insert into late values (1); insert into a values (7)")
	must(t, c.WaitCaughtUp(ctx))
	for _, n := range []*lab.Node{some, all, news} {
		must(t, n.Refresh(ctx))
		must(t, n.Refresh(ctx))
	}
	wantTables(some, `a s."B b"`)
	wantTables(all, `a b late s."B b"`)
	exec1(t, primary.DSN(), "update late set i = 2; insert into late values (3)")
	must(t, c.WaitCaughtUp(ctx))
	if got := query[int](t, all.DSN(), "select sum(i) from late"); got != 5 {
		t.Errorf("sum of the late table: got %d, want 5", got)
	}
	exec1(t, primary.SuperDSN(), "alter publication news add table late")
	must(t, news.Refresh(ctx))
	wantTables(news, "b late")
	must(t, all.Cut(ctx))
	wantError(t, all.Refresh(ctx), "subscriber1", "heal")
	must(t, all.Heal(ctx))
	wantError(t, primary.Refresh(ctx), "node1", "not a subscriber")
}

// What the lab cannot copy the caller makes, all of it or the part that is
// missing.
func TestSubscriberSchema(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, lab.Options{})
	primary := c.Primary()
	const pair = "create type pair as (a int, b int)"
	exec1(t, primary.DSN(), pair+"; create table t (id int primary key, p pair); insert into t values (1, (1, 2)); create table u (id int primary key)")
	_, err := c.AddSubscriber(ctx, lab.SubscriberOptions{})
	wantError(t, err, "copy public.t", `type "public.pair" does not exist`, "SubscriberOptions.Schema")

	sub := subscriber(t, c, lab.SubscriberOptions{Schema: func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, pair+"; create table u (id int primary key, more text default 'own'); create view v as select * from u")
		return err
	}})
	exec1(t, primary.DSN(), "insert into u values (1); update t set p.b = 3")
	must(t, c.WaitCaughtUp(ctx))
	if got := query[string](t, sub.DSN(), "select (select p::text from t) || (select id || more from v)"); got != "(1,3)1own" {
		t.Errorf("content: got %s, want (1,3)1own", got)
	}
	if got := query[string](t, sub.DSN(), "select tableowner from pg_tables where tablename = 'u'"); got != "app" {
		t.Errorf("owner of what Schema made: got %s, want app", got)
	}
}
