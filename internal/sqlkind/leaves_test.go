package sqlkind

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
)

// leaving says of statements what they leave; "" is nothing.
var leaving = map[string]string{
	"select 1": "",
	"insert into t (a) values (1); set work_mem = '1MB'":                                 "settings",
	"set work_mem = '2MB'":                                                               "settings",
	"set session work_mem = '3MB'":                                                       "settings",
	"/* x */ Set /* local */ work_mem = '4MB'":                                           "settings",
	"set local work_mem = '5MB'":                                                         "",
	"set transaction read only":                                                          "",
	"set constraints all deferred":                                                       "",
	"select set_config('work_mem', '6MB', false)":                                        "settings",
	"select set_config('work_mem', '7MB', true)":                                         "",
	"select set_config('work_mem', concat('8', 'MB'), is_local=>true)":                   "",
	"select set_config('work_mem', '9MB', not true)":                                     "settings",
	"select set_config('work_mem', '10MB', true), set_config('work_mem', '11MB', false)": "settings",
	`select "set_config"('app.mark', 'y', false)`:                                        "custom settings",
	"select pg_catalog.set_config('app.mark', 'z', false)":                               "custom settings",
	"select pg_advisory_lock(1)":                                                         "locks",
	"select pg_try_advisory_lock_shared(2)":                                              "locks",
	"select pg_advisory_lock(3), 1/(random()*0)::int":                                    "locks",
	"select pg_advisory_xact_lock(4)":                                                    "",
	"do $$ begin perform pg_advisory_lock(5); end $$":                                    "locks",
	"listen l":              "channels",
	"prepare p as select 1": "prepared statements",
	"declare c cursor with hold for select 1":    "cursors",
	"declare c cursor without hold for select 1": "",
	"set role app":                               "roles",
	"create temp table x (a int)":                "temporary objects",
	"create local temporary view x as select 1":  "temporary objects",
	"select 1 as a into temp x":                  "temporary objects",
	"select 1 as a into temporary table x":       "temporary objects",
	"create table pg_temp.x (a int)":             "temporary objects",
	`create table "pg_temp".x (a int)`:           "temporary objects",
	"create temp table x (a int) on commit drop": "",
	"create temp table x (a int); insert into x values (1); drop table if exists zz": "temporary objects",
	"create temp table x on commit drop as select pg_try_advisory_lock(7) as a":      "locks",
	"create temp table x (a int) on commit drop; create temp table y ()":             "temporary objects",
	"create temp table x (a int) on commit delete rows":                              "temporary objects",
	"create temp sequence x": "temporary objects",
	"create function pg_temp.f() returns int language sql as 'select 1'":                   "temporary objects",
	"update pg_settings set setting = '1MB' where name = 'work_mem'":                       "settings",
	"update only pg_catalog.\"pg_settings\" s set setting = '1MB' where name = 'work_mem'": "settings",
	"create table u as select * from pg_settings":                                          "",
	"set local.mark = 'x'":                                                       "custom settings",
	"set transaction.mark = 'x'":                                                 "custom settings",
	"set constraints.mark = 'x'":                                                 "custom settings",
	"set local local.mark = 'x'":                                                 "",
	"prepare transaction as select 1":                                            "prepared statements",
	"select set_config('app.mark', set_config('a.b', 'x', false), true)":         "custom settings",
	"select set_config('app.mark', pg_advisory_lock(8)::text, true)":             "locks",
	"select set_config('work_mem', '12MB', false > true)":                        "settings",
	"select set_config('work_mem', '13MB', true), pg_advisory_lock(9)":           "locks",
	"select txid_current_snapshot()":                                             "",
	"create table temp (temp int)":                                               "",
	"insert into temp (temp) values (1)":                                         "",
	"select temp from temp for update":                                           "",
	"select * from query_to_xml('select pg_advisory_lock(6)', true, true, '') q": "locks",
	"lock table t": "", "savepoint s": "", "notify n": "", "fetch 1 from c": "",
	"update t set a = 1": "", "delete from t": "", "select nextval('s')": "",
}

// TestLeaves holds what is said of a statement against what it leaves in a
// session of a real primary.
func TestLeaves(t *testing.T) {
	primary := start(t).Primary().SuperDSN()
	connect(t, primary).rows("create sequence if not exists s; create table if not exists temp (temp int); select 1")
	for sql, want := range leaving {
		h := newHarness(t, primary)
		state, left := h.left(sql)
		if want == "" && left != "" || want != "" && !strings.Contains(left, want+": ") {
			t.Errorf("%q (%s) left %q, the table says %q", sql, state, left, want)
		}
		if got := Leaves(sql); got != (want != "") {
			t.Errorf("Leaves(%q) = %v, it leaves %q", sql, got, left)
		}
		if v := Classify(sql); v.Leaves != (want != "") {
			t.Errorf("Classify(%q) = %+v, it leaves %q", sql, v, left)
		}
		h.rows("reset role; select pg_advisory_unlock_all()")
	}
}

// TestNothingIsLeftUnsaid looks at statements that nobody has chosen.
func TestNothingIsLeftUnsaid(t *testing.T) {
	h := newHarness(t, start(t).Replicas()[0].SuperDSN())
	texts := sqlcase.Random(2, 4000)
	for _, c := range allCases(t) {
		texts = append(texts, c.sql)
	}
	leave, accepted := 0, 0
	for _, sql := range texts {
		if v := Classify(sql); v.Kind == Unknown {
			continue // promotes the standby, ends its processes, waits for ever
		}
		if Leaves(sql) {
			leave++
			continue
		}
		state, left := h.left(sql)
		if state == "" {
			accepted++
		}
		if left != "" {
			t.Errorf("%q is said to leave nothing, and changed %s", sql, left)
		}
	}
	t.Logf("%d texts, %d said to leave something, %d others accepted", len(texts), leave, accepted)
	if leave > len(texts)/2 || accepted < len(texts)/5 {
		t.Errorf("of %d texts %d are said to leave something and %d others were accepted: that shows little", len(texts), leave, accepted)
	}
}

// left runs sql in a transaction and says what is different in the session when
// that has ended.
func (h *harness) left(sql string) (state, left string) {
	h.t.Helper()
	h.rows("begin; select 1")
	state, _ = h.try(sql)
	end := "rollback"
	if h.TxStatus() == 'T' {
		end = "commit"
	}
	h.rows(end + "; select 1")
	before := h.before
	_ = h.changes()
	var all []string
	for _, name := range []string{"settings", "custom settings", "locks", "channels", "cursors", "prepared statements", "roles", "temporary objects", "connections to others"} {
		if h.before[name] != before[name] {
			all = append(all, fmt.Sprintf("%s: %q, was %q", name, h.before[name], before[name]))
		}
	}
	return state, strings.Join(all, "; ")
}

// TestLeavesByName has texts whose traces the harness does not see, or that need
// more than the test's server has.
func TestLeavesByName(t *testing.T) {
	for _, sql := range []string{
		"discard all", "reset all", "unlisten *", "load 'auto_explain'", "deallocate all",
		"create global temp table x (a int)",
		"create or replace temp view x as select 1",
		`create table U&"pg\005ftemp".x (a int)`,
		"update t set a = 'open",
		"select setseed(0)", "select set_limit(0.1)", "select isn_weak(true)",
		"select pg_backup_start('x')", "select pg_start_backup('x')",
		"select dblink_connect('x')",
		"select pg_create_physical_replication_slot('x', false, true)",
		"select pg_copy_physical_replication_slot('x', 'y', true)",
		"select pg_replication_origin_session_setup('x')",
	} {
		if v := Classify(sql); !v.Leaves {
			t.Errorf("Classify(%q) = %+v, want it to leave something", sql, v)
		}
	}
}
