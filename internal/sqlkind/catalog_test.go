package sqlkind

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The files testdata/catalog/*.txt are what standbys of each major version said:
// one line for each function that is volatile or known to this package, and one
// for each view of the system's. The columns are
//
//	kind        of a query that calls the function or reads the view
//	volatility  v, s or i; view for a view
//	standby     what happened when a superuser called it there: runs, refused
//	            (25006), or the SQLSTATE of another error; - if it was not called
//	name
//	extension   that it belongs to, if it does
//
// A function that is volatile and was not refused is what nobody would ever report
// an error for. go test -run TestCatalogOfStandby -update writes the file.

// catalogRow is one line of such a file.
type catalogRow struct {
	kind, volatility, standby, name, extension string
}

func (r catalogRow) String() string {
	return strings.TrimRight(fmt.Sprintf("%-8s %-4s %-8s %s %s", r.kind, r.volatility, r.standby, r.name, r.extension), " ")
}

// silent reports whether a standby would do something for r, or try to.
func (r catalogRow) silent() bool { return r.volatility == "v" && r.standby != "refused" }

// sameEverywhere are the volatile functions that a standby runs and may be asked
// for all the same, by the reason.
var sameEverywhere = map[string]string{
	"gives another value at each call, on any node": `
		clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7
		array_sample array_shuffle normal_rand gen_random_bytes gen_salt
		uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4
		pgp_pub_encrypt pgp_pub_encrypt_bytea pgp_sym_encrypt pgp_sym_encrypt_bytea`,
	"reads what is replicated": `
		lo_get currtid2 pg_partition_ancestors pg_partition_tree pg_database_size
		pg_indexes_size pg_relation_size pg_table_size pg_tablespace_size
		pg_total_relation_size`,
	"checks what is replicated, or its arguments": `
		amvalidate plpgsql_validator file_fdw_validator postgres_fdw_validator`,
	"computes from its arguments": `
		timezone xslt_process brin_metapage_info brin_page_items brin_page_type
		brin_revmap_data fsm_page_contents gin_leafpage_items gin_metapage_info
		gin_page_opaque_info gist_page_items gist_page_items_bytea
		gist_page_opaque_info hash_metapage_info hash_page_items hash_page_stats
		hash_page_type heap_page_item_attrs heap_page_items
		heap_tuple_infomask_flags page_checksum page_header tuple_data_split`,
	"asks a node where it stands, which is to ask the node that answers": `
		pg_is_in_recovery pg_is_wal_replay_paused pg_get_wal_replay_pause_state
		pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
		pg_jit_available fips_mode`,
	"asks about the call itself or its connection": `
		current_query ssl_cipher ssl_client_cert_present ssl_client_dn
		ssl_client_dn_field ssl_client_serial ssl_extension_info ssl_is_used
		ssl_issuer_dn ssl_issuer_field ssl_version`,
	"waits": `pg_sleep pg_sleep_for pg_sleep_until`,
}

// sameOnServers are the views that depend on a server and may be read from any.
var sameOnServers = map[string]string{
	"is SHOW by another name":        `pg_settings`,
	"describes the server's program": `pg_wait_events`,
	"shows temporary tables too, but only those of its own session, which is on the primary": `
		columns key_column_usage sequences table_constraints tables
		triggered_update_columns triggers views`,
}

// reasons turns lists of names by reason into reasons by name.
func reasons(lists map[string]string) map[string]string {
	m := map[string]string{}
	for why, names := range lists {
		for _, name := range strings.Fields(names) {
			m[name] = why
		}
	}
	return m
}

// arguments are values to call functions with, by type. Other types get a null.
var arguments = map[string]string{
	`"any"`: "1", "record": "row(1)", "anyelement": "1", "anyarray": "array[1, 2]", "anynonarray": "1",
	"anycompatible": "1", "anycompatiblearray": "array[1, 2]", `"char"`: `'x'::"char"`, "interval": "'1 ms'::interval",
	"double precision": "0.01::double precision", "boolean": "true", "regclass": "'pg_class'::regclass",
	"pg_lsn": "'0/1'::pg_lsn", "tid": "'(0,1)'::tid", "json": "'{}'::json", "jsonb": "'{}'::jsonb",
	"regtype": "'int4'::regtype", "tsquery": "'a'::tsquery", "timestamp with time zone": "now()", "bytea": "'x'::bytea",
	"uuid": "'00000000-0000-0000-0000-000000000000'::uuid", "text[]": "'{a,b}'::text[]", "tid[]": "'{\"(0,1)\"}'::tid[]",
	"xml": "'<a/>'::xml", "character": "'x'", "regprocedure": "'now()'::regprocedure", "date": "now()::date",
	"text": "'x'::text", "name": "'x'::name", "cstring": "'x'::cstring", "character varying": "'x'::varchar",
	"refcursor": "'x'::refcursor", "oidvector": "'1'::oidvector", "pg_snapshot": "'1:1:'::pg_snapshot",
	"smallint": "1::smallint", "integer": "1", "bigint": "1::bigint", "oid": "1::oid", "real": "1::real",
	"numeric": "1::numeric", "xid": "'1'::xid", "xid8": "'1'::xid8", "cid": "'1'::cid", "integer[]": "'{1}'::int[]",
	"bigint[]": "'{1}'::bigint[]", "oid[]": "'{1}'::oid[]",
}

// routine is a function that a query can call, once for each list of arguments.
type routine struct {
	schema, name, volatility, extension string
	types                               string // of the arguments, divided by bars
	variadic                            bool
}

// routines lists the functions of the server and its extensions. The one that ends
// recovery comes last.
func routines(c *client) []routine {
	c.t.Helper()
	var all []routine
	for _, f := range c.rows(`
		select n.nspname, p.proname, p.provolatile, coalesce(e.extname, ''), a.types, p.provariadic <> 0
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		left join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
		left join pg_extension e on e.oid = d.refobjid,
		lateral (select coalesce(string_agg(format_type(t, null), '|' order by i), '')
			from unnest(p.proargtypes) with ordinality u(t, i)) a(types)
		where (n.nspname = 'pg_catalog' or e.extname <> '') and p.prokind in ('f', 'w', 'a')
		and p.prorettype::regtype::text !~ '(trigger|internal|handler)$' and not 'internal'::regtype = any(p.proargtypes)
		order by p.proname = 'pg_promote', p.proname, p.oid`) {
		all = append(all, routine{f[0], f[1], f[2], f[3], f[4], f[5] == "t"})
	}
	return all
}

// call returns a query that calls the function.
func (r routine) call() string {
	var values []string
	for _, typ := range strings.Split(r.types, "|") {
		value := arguments[typ]
		if value == "" {
			value = "null::" + typ
		}
		if typ != "" {
			values = append(values, value)
		}
	}
	if n := len(values); r.variadic && n > 0 && strings.HasSuffix(r.types, "[]") {
		values[n-1] = "variadic " + values[n-1]
	}
	return fmt.Sprintf("select %q.%q(%s)", r.schema, r.name, strings.Join(values, ", "))
}

// catalog returns a row for each function's name, having called the volatile ones.
// The standby is of no use afterwards.
func catalog(c *client) []catalogRow {
	c.t.Helper()
	rows := map[string]catalogRow{}
	for _, f := range routines(c) {
		row, seen := rows[f.name]
		if !seen {
			row = catalogRow{function(f.name).Kind.String(), f.volatility, "-", f.name, f.extension}
		}
		row.volatility = max(row.volatility, f.volatility) // in the alphabet v comes last
		if f.volatility == "v" {
			state, _ := c.try(f.call())
			row.standby = bolder(row.standby, answer(state))
		}
		rows[f.name] = row
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b catalogRow) int { return cmp.Compare(a.name, b.name) })
}

func answer(state string) string {
	switch state {
	case "":
		return "runs"
	case "25006":
		return "refused"
	}
	return state
}

// bolder returns the answer that lets more happen.
func bolder(a, b string) string {
	order := func(s string) int { return slices.Index([]string{"-", "refused", s, "runs"}, s) }
	if order(b) > order(a) {
		return b
	}
	return a
}

// views lists the views of the system and of the extensions. One that shows what a query may not ask for is
// no Read itself, unless there is a reason.
func views(c *client, excused map[string]string) []catalogRow {
	c.t.Helper()
	var rows []catalogRow
	for _, v := range c.rows(`
		select c.relname, c.relnamespace::regnamespace, pg_get_viewdef(c.oid), coalesce(e.extname, '') from pg_class c
		left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
		left join pg_extension e on e.oid = d.refobjid
		where c.relkind = 'v' and (c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) or e.extname <> '')
		order by 2, 1`) {
		name, definition := v[1]+"."+v[0], v[2]
		got := Classify("select * from " + name)
		if inside := Classify(definition); got.Kind == Read && inside.Kind != Read && excused[v[0]] == "" {
			c.t.Errorf("%s is a read, but what it shows is not: %v", name, inside)
		}
		rows = append(rows, catalogRow{got.Kind.String(), "view", "-", name, v[3]})
	}
	return rows
}

// TestCatalogOfStandby derives what a standby would do without a word from the
// functions of the server at hand: each volatile one that it does not refuse is
// no Read, unless it is the same everywhere. It compares that with the file.
func TestCatalogOfStandby(t *testing.T) {
	c := connect(t, start(t).Replicas()[1].SuperDSN())
	major := c.major()
	var kept []catalogRow
	silent := 0
	excused := reasons(sameEverywhere)
	for _, row := range catalog(c) {
		if row.silent() {
			silent++
			checkSilent(t, row, excused)
		}
		if row.volatility == "v" || known(row.name) {
			kept = append(kept, row)
		}
	}
	if silent < 100 {
		t.Errorf("%d functions are volatile and not refused, want the 100 and more of any server", silent)
	}
	if got := c.rows("select pg_is_in_recovery()")[0][0]; got != "f" {
		t.Error("pg_promote was called last and the standby is one still: the calls prove nothing")
	}
	compareCatalog(t, major, append(kept, views(c, reasons(sameOnServers))...))
}

// known reports whether this package takes the function for more or less than
// any other.
func known(name string) bool {
	_, listed := functions[name]
	return listed || function(name).Kind != Read
}

func checkSilent(t *testing.T, row catalogRow, excused map[string]string) {
	t.Helper()
	if excused[row.name] != "" {
		return
	}
	if row.kind == "read" {
		t.Errorf("%s is volatile, a standby does not refuse it (%s), and it is a read", row.name, row.standby)
	}
	if innocent(row.name) {
		t.Errorf("%s is volatile, a standby does not refuse it (%s), and Calls does not count it", row.name, row.standby)
	}
}

// compareCatalog compares rows with the file of the major version, or writes it.
// Extensions are left out, as installations have some or all of them, and so are
// errors, which may come from how the server was built.
func compareCatalog(t *testing.T, major int, rows []catalogRow) {
	t.Helper()
	path := filepath.Join("testdata", "catalog", fmt.Sprintf("%d.txt", major))
	if *update {
		var b bytes.Buffer
		fmt.Fprintf(&b, "# Functions and views of a standby of PostgreSQL %d: see catalog_test.go.\n\n", major)
		for _, row := range rows {
			fmt.Fprintln(&b, row)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Logf("there is no %s to compare with: -update writes it", path)
		return
	}
	comparable := func(rows []catalogRow) map[string]bool {
		m := map[string]bool{}
		for _, row := range rows {
			if row.extension == "" {
				m[fmt.Sprintf("%s %s %s refused: %v", row.kind, row.volatility, row.name, row.standby == "refused")] = true
			}
		}
		return m
	}
	got, want := comparable(rows), comparable(readCatalog(t, path))
	for line := range got {
		if !want[line] {
			t.Errorf("the standby says %q, which is not in %s", line, path)
		}
	}
	for line := range want {
		if !got[line] {
			t.Errorf("%s says %q, the standby does not", path, line)
		}
	}
}

func readCatalog(t *testing.T, path string) []catalogRow {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows []catalogRow
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := append(strings.Fields(line), "")
		if len(fields) < 5 {
			t.Fatalf("%s: %q: want kind, volatility, standby, name", path, line)
		}
		rows = append(rows, catalogRow{fields[0], fields[1], fields[2], fields[3], fields[4]})
	}
	return rows
}

// TestCatalog goes through the files of all versions, without a server: each
// function and view is of its kind however it is written, nothing silent is a
// read without a reason, and no list of names has one that no server knows.
func TestCatalog(t *testing.T) {
	functionsSeen, viewsSeen, silent := map[string]bool{}, map[string]bool{}, map[string]bool{}
	excused := reasons(sameEverywhere)
	for _, major := range []int{14, 15, 16, 17, 18} {
		for _, row := range readCatalog(t, filepath.Join("testdata", "catalog", fmt.Sprintf("%d.txt", major))) {
			if row.volatility == "view" {
				_, name, _ := strings.Cut(row.name, ".")
				viewsSeen[name] = true
				checkKind(t, row.kind, "table "+row.name, "select a from t, "+strings.ToUpper(row.name)+" v", `values ((select b from "`+name+`"))`)
				continue
			}
			functionsSeen[row.name] = true
			checkKind(t, row.kind, "select "+row.name+"(1)", "select * from pg_catalog."+strings.ToUpper(row.name)+" ()", `values ("`+row.name+`"())`)
			if row.silent() {
				silent[row.name] = true
				checkSilent(t, row, excused)
			}
		}
	}
	for name := range excused {
		if !silent[name] {
			t.Errorf("%s needs no excuse: no standby runs it, or it is not volatile", name)
		}
	}
	for name := range reasons(sameOnServers) {
		if !viewsSeen[name] {
			t.Errorf("there is no view %s", name)
		}
	}
	for name := range functions {
		if !functionsSeen[name] {
			t.Errorf("there is no function %s in any catalog", name)
		}
	}
}

func checkKind(t *testing.T, want string, texts ...string) {
	t.Helper()
	for _, sql := range texts {
		if got := Classify(sql); got.Kind.String() != want {
			t.Errorf("Classify(%q) = %v, want a %s", sql, got, want)
		}
	}
}
