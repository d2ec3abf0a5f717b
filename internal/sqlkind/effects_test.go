package sqlkind

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
)

// stateQuery returns what a statement could leave behind on a standby, one name
// and value in each row. The weak locks that a query takes, or a change that is only
// planned, do not count: nothing on a standby would wait for them.
const stateQuery = `
	select 'settings', coalesce(string_agg(name || '=' || setting, ' ' order by name), '') from pg_settings
		where source = 'session' and name not like 'transaction\_%'
	union all select 'custom settings', concat_ws(' ', current_setting('app.mark', true), current_setting('a.b', true),
		current_setting('local.mark', true), current_setting('transaction.mark', true), current_setting('constraints.mark', true))
	union all select 'locks', coalesce(string_agg(concat_ws(' ', locktype, mode, relation::regclass, classid, objid), ', '
		order by locktype, mode, relation, objid), '') from pg_locks
		where pid = pg_backend_pid() and locktype <> 'virtualxid'
		and mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
	union all select 'channels', coalesce(string_agg(c, ' ' order by c), '') from pg_listening_channels() c
	union all select 'cursors', coalesce(string_agg(name, ' ' order by name), '') from pg_cursors where name <> ''
	union all select 'prepared statements', coalesce(string_agg(name, ' ' order by name), '') from pg_prepared_statements
	union all select 'roles', concat_ws(' ', session_user, current_user)
	union all select 'temporary objects', coalesce((select string_agg(o, ' ' order by o) from (
		select relname::text from pg_class where relnamespace = pg_my_temp_schema()
		union all select proname from pg_proc where pronamespace = pg_my_temp_schema()) t (o)), '')
	union all select 'transaction', coalesce(txid_current_if_assigned()::text, '')
	union all select 'slots', coalesce(string_agg(slot_name, ' ' order by slot_name), '') from pg_replication_slots
	union all select 'exported snapshots', coalesce(string_agg(f, ' ' order by f), '') from pg_ls_dir('pg_snapshots') f
	union all select 'files', string_agg(f, ' ' order by f) from pg_ls_dir('.') f where f <> 'recovery.signal'
	union all select 'recovery', concat_ws(' ', pg_is_in_recovery(), pg_is_in_recovery() and pg_is_wal_replay_paused())
	union all select 'configuration', pg_conf_load_time()::text
	union all select 'statistics', coalesce(max(stats_reset)::text, '') from pg_stat_database
	union all select 'connections to others', coalesce(dblink_get_connections()::text, '')`

// harness runs statements in a session on a standby and sees what they changed.
type harness struct {
	*client
	query  string
	before map[string]string
}

func newHarness(t testing.TB, dsn string) *harness {
	h := &harness{client: connect(t, dsn), query: stateQuery}
	if h.rows("select count(*) from pg_extension where extname = 'dblink'")[0][0] == "0" {
		// A small installation.
		h.query = h.query[:strings.LastIndex(h.query, "union all")]
	}
	h.before = h.state()
	return h
}

func (h *harness) state() map[string]string {
	h.t.Helper()
	m := map[string]string{}
	for _, row := range h.rows(h.query) {
		m[row[0]] = row[1]
	}
	return m
}

// changes says what is different from before, and takes it as it is now.
func (h *harness) changes() string {
	h.t.Helper()
	var all []string
	now := h.state()
	for name, value := range now {
		if was := h.before[name]; value != was {
			all = append(all, fmt.Sprintf("%s: %q, was %q", name, value, was))
		}
	}
	h.before = now
	return strings.Join(all, "; ")
}

// run runs a text in a transaction, so that what ends with it is seen as well, and
// then ends it. It returns the SQLSTATE it was refused with, and what it changed.
func (h *harness) run(sql string) (state, changed string) {
	h.t.Helper()
	h.rows("begin; select 1")
	state, _ = h.try(sql)
	if state == "42P02" {
		// A parameter. Each gets a null.
		state = h.prepared(sql)
	}
	if h.TxStatus() == 'T' {
		changed = h.changes()
		h.rows("commit; select 1")
		if changed != "" {
			h.before = h.state() // some of it has ended
		}
		return state, changed
	}
	h.rows("rollback; select 1")
	return state, h.changes()
}

func (h *harness) prepared(sql string) (state string) {
	h.t.Helper()
	h.rows("rollback; begin; select 1")
	d, err := h.Prepare(h.ctx, "", sql, nil)
	if err == nil {
		err = h.ExecPrepared(h.ctx, "", make([][]byte, len(d.ParamOIDs)), nil, nil).Read().Err
	}
	return refusalOf(h.t, err).Code
}

// check runs a Read. It must not change anything, and the standby must not take it
// for a write, unless it calls functions of the user's own.
func (h *harness) check(where, sql string) (accepted bool) {
	h.t.Helper()
	state, changed := h.run(sql)
	if changed != "" {
		h.t.Errorf("%s: %q is a read and changed %s", where, sql, changed)
	}
	if state == "25006" && !Classify(sql).Calls {
		h.t.Errorf("%s: %q is a read, calls no function of the user's own, and the standby refuses it as a write", where, sql)
	}
	return state == ""
}

// TestEffectsAreSeen shows that the harness sees what it looks for.
func TestEffectsAreSeen(t *testing.T) {
	for sql, want := range map[string]string{
		"set work_mem = '1MB'":                            "settings",
		"set local work_mem = '2MB'":                      "settings",
		"set app.mark = 'x'":                              "custom settings",
		"select set_config('app.mark', 'y', true)":        "custom settings",
		"select pg_advisory_lock(1)":                      "locks",
		"select pg_advisory_xact_lock(2)":                 "locks",
		"declare c cursor for select 1":                   "cursors",
		"prepare p as select 1":                           "prepared statements",
		"set role app":                                    "roles",
		"select pg_export_snapshot()":                     "exported snapshots",
		"select pg_create_physical_replication_slot('s')": "slots",
		"select pg_wal_replay_pause()":                    "recovery",
		"select pg_stat_reset()":                          "statistics",
		"copy (select 1) to program 'cat > left_behind'":  "files",
		"select 1": "",
		"select * from t, users; explain delete from t":    "",
		"select pg_sleep(0); copy t to stdout; show all":   "",
		"update t set a = 1":                               "",
		"select app.writes(1)":                             "",
		"set work_mem = '1MB'; select 1/0":                 "",
		"discard all; select pg_advisory_lock(3), no_such": "",
	} {
		h := newHarness(t, start(t).Replicas()[0].SuperDSN())
		if want == "statistics" && h.major() < 15 {
			continue // they were kept by a process of its own, which takes its time
		}
		state, changed := h.run(sql)
		if want == "" && changed != "" || !strings.Contains(changed, want+": ") && want != "" {
			t.Errorf("%q (%s) changed %q, want %q", sql, state, changed, want)
		}
		h.rows("reset role; select pg_wal_replay_resume()")
		h.rows("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
	}
}

// TestTablesOnStandby runs each read of the tables on a standby.
func TestTablesOnStandby(t *testing.T) {
	h := newHarness(t, start(t).Replicas()[0].SuperDSN())
	reads, accepted := 0, 0
	for _, c := range allCases(t) {
		if Classify(c.sql).Kind != Read {
			continue
		}
		reads++
		if h.check(c.where, c.sql) {
			accepted++
		}
	}
	if reads < 100 || accepted < reads*3/4 {
		t.Errorf("the standby accepted %d of %d reads: the others show nothing", accepted, reads)
	}
}

// TestRefusalTeaches has a standby tell what no text does.
func TestRefusalTeaches(t *testing.T) {
	h := newHarness(t, start(t).Replicas()[0].SuperDSN())
	var c Cache
	for _, sql := range []string{
		"select my_writing_function()", "select app.writes(a) from t", "with w as (select app.inserts(1)) table w",
	} {
		if got := c.Classify(sql); got.Kind != Read || !got.Calls {
			t.Errorf("Classify(%q) = %v at first, want a read that calls something", sql, got)
		}
		state, changed := h.run(sql)
		if state != "25006" || changed != "" {
			t.Errorf("%q: SQLSTATE %q and changed %q, want 25006 and nothing", sql, state, changed)
		}
		c.Learn(sql, Write, "refused by a standby")
		if got := c.Classify(sql); got.Kind != Write {
			t.Errorf("Classify(%q) = %v after the refusal, want a write", sql, got)
		}
	}
}

// TestFunctionsOnStandby calls each function that a read may call, volatile or
// not, with the arguments of the catalog.
func TestFunctionsOnStandby(t *testing.T) {
	h := newHarness(t, start(t).Replicas()[0].SuperDSN())
	calls, accepted := 0, 0
	for _, f := range routines(h.client) {
		if function(f.name).Kind != Read {
			continue
		}
		calls++
		if h.check("catalog", f.call()) {
			accepted++
		}
	}
	if calls < 2000 || accepted < calls/2 {
		t.Errorf("the standby accepted %d of %d calls: the others show nothing", accepted, calls)
	}
}

// TestComposedOnStandby runs the reads among composed statements.
func TestComposedOnStandby(t *testing.T) {
	const statements = 6000
	h := newHarness(t, start(t).Replicas()[0].SuperDSN())
	reads, accepted := 0, 0
	for i, sql := range sqlcase.Random(1, statements) {
		if Classify(sql).Kind != Read {
			continue
		}
		reads++
		if h.check(fmt.Sprint("composed ", i), sql) {
			accepted++
		}
	}
	t.Logf("%d statements, %d reads, %d of them accepted", statements, reads, accepted)
	if reads < statements/5 || accepted < reads/2 {
		t.Errorf("%d of %d statements are reads and the standby accepted %d: the others show nothing", reads, statements, accepted)
	}
}

// FuzzStandby composes statements as the fuzzer chooses and runs those that are
// reads. The fuzzer's processes share one standby.
func FuzzStandby(f *testing.F) {
	dsn := os.Getenv(standbyEnv)
	if dsn == "" {
		dsn = start(f).Replicas()[0].SuperDSN()
		f.Setenv(standbyEnv, dsn)
	}
	h := newHarness(f, dsn)
	for i := range byte(64) {
		f.Add([]byte{i, 7 * i, 11 * i, 13 * i, 17 * i, 19 * i, 23 * i, 29 * i})
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 512 {
			return // no other statements, only longer ones
		}
		if sql := sqlcase.Compose(choices); Classify(sql).Kind == Read {
			h.client.t = t
			h.check("composed", sql)
		}
	})
}
