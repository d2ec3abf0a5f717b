package sqlcase

// grammar gives each rule its forms. The first form of a rule leads to an end
// without choices. The relations and the functions app.* are those of Schema.
var grammar = map[string][]string{
	"text": {
		"{statement}", "{statement}", "{statement}", "{statement}", "{statement}", "{statement} ;",
		"{statement} ; {statement}", "; {query} ;; {statement}", "{comment} {query}", "( {query} )",
	},
	"comment": {"/* pgbouncer */", "-- name: GetUser :one\n", "/* a /* b */ ; */", "/*+ SeqScan(t) */"},
	"statement": {
		"{query}", "{query}", "{query}", "{query}", "{query}", "{query}", "{query}",
		"explain {query}", "explain verbose {change}", "explain ( costs off ) {change}",
		"explain analyze {statement}", "explain ( {option} ) {statement}", "explain ( {option} , {option} ) {query}",
		"copy t to stdout", "copy ( {query} ) to stdout", "copy ( {change} returning * ) to stdout",
		"copy ( {query} ) to {file}", "copy t from stdin",
		"show {setting}", "table t", "values ( {value} ) , ( {value} )",
		"{change}", "{session}",
	},
	"option": {
		"analyze", "analyze false", "verbose", "costs off", "analyze true", "analyze on", "analyze off",
		"analyze 0", "analyze 1", "format json", "buffers off", `"analyze"`, "summary off",
	},
	"file":    {"'/nowhere/f'", "program '>composed_file'"},
	"setting": {"server_version", "transaction_read_only", "all", "search_path", "app.mark"},

	"query": {
		"select {value}",
		"select {value} , {value} as {label}", "select {value} {from}", "select {value} {from} {where}",
		"select * {from} {where} {tail}", "select distinct {value} {from} {tail}",
		"select * from t {lock}", "select * from ( {query} ) x {lock}",
		"with {cte} {main}", "with {cte} , w2 as ( {query} ) {main}",
		"with recursive r ( n ) as ( select 1 union all select n + 1 from r where n < 3 ) select {value} from r",
		"( {query} ) union all ( {query} )", "( {query} ) {lock}", "values ( {value} )", "table t",
		"select * into {new} from t", "select a into {new} x from t", "table t {lock}",
	},
	"main": {"select 1", "select * from w", "table w", "{query}", "{change}", "values ( 1 )"},
	"cte": {
		"w as ( select 1 as n )", "w as ( {query} )", "w as materialized ( {query} )", "w ( a ) as not materialized ( {query} )",
		"w as ( {change} returning * )", "w as ( {change} )",
	},
	"new": {"copy", "temp copy", "table copy", "unlogged copy"},
	"change": {
		"delete from t", "update t set a = {value}", "update only t * set a = 1", "insert into t values ( {value} )",
		"insert into t ( a ) {query}", "delete from t using users {where}",
		"merge into t using users u on t . id = u . id when matched then delete", "update users u set name = 'x' from t",
	},
	"session": {
		"set app.mark = 'x'", "set local work_mem = '1MB'", "reset all", "discard all", "listen app", "unlisten *",
		"notify app , 'x'", "prepare p as {statement}", "execute p", "deallocate all",
		"declare c cursor with hold for {query}", "fetch from c", "close all", "lock table t in access share mode",
		"begin", "commit", "create temp table tmp ( a int )", "do {block}", "call app.write_twice()",
		"load 'plpgsql'", "vacuum t", "analyze t", "create table x as {query}", "drop table t", "truncate t",
		"grant select on t to public", "comment on table t is 'x'", "checkpoint", "reindex table t", "alter table t add z int",
		"set role app", "set session authorization app",
	},
	"from": {
		"from t", "from {relation}", "from t , users u", "from t join users u on u . id = t . id", "from only t",
		"from ( {query} ) x", "from {call} x", "from t , lateral ( {query} ) x", "from generate_series ( 1 , 3 ) g",
		"from t tablesample system ( 10 )", "from lateral {call} x",
	},
	"relation": {
		"t", "app . visits", "users", `"users"`, "pg_class", "pg_settings", "pg_stats", "information_schema . tables",
		"pg_locks", "pg_stat_activity", "pg_cursors", "pg_prepared_statements", "pg_temp . t", "pg_sequences",
		"pg_replication_slots", "app . s", "app . last_value",
	},
	"where": {
		"where true", "where {value} is not null", "where exists ( {query} )", "where a in ( {query} )", "where id = {call}",
		"where t is null", "where ( {value} ) is null",
	},
	"tail": {
		"limit 1", "order by 1", "group by 1", "having true", "offset 0 rows fetch first 1 row only", "order by {value}",
		"limit {call}", "{lock}",
	},
	"lock": {
		"limit 3", "for update", "for no key update", "for share", "for key share", "for update of t", "for update skip locked",
		"limit 1 for share nowait", "order by 1",
	},
	"value": {
		"1", "{text_value}", "{text_value}", "{call}", "{call}", "{call}", "( {query} )", "( {value} )", "- 1", "null", "1.5e3", "a", "t . a",
		"case when {value} is null then 1 else 2 end", "cast ( {text_value} as text )", "{text_value} :: text", "array [ 1 , 2 ]",
		"coalesce ( {value} , null )", "exists ( {query} )", "current_user", `"for"`, "delete", "u . update", "row ( {value} )",
		"array ( {query} )", "interval '1day'", "{value} is distinct from {value}", "( select {call} )", "0x1F", "1_000", "2for",
	},
	"label": {"a", "delete", "update", `"into"`, "into", "for", "nextval", `"pg_advisory_lock"`, "end"},
	"text_value": {
		"'x'", "'delete from t'", "'it''s'", `'\'`, `E'\''`, `e'\\'`, `E'a\'; delete from t; --'`, "$$it's$$",
		"$a$ $$ ; delete from t $a$", "N'x'", "B'101'", "X'1F'", `U&'\0061'`, `U&'d!0061' uescape '!'`,
		"'a'\n'b'", "E'a'\n'\\''", "'/*'", "'--'", `'"'`, "'select nextval(1)'",
	},
	"call": {
		"now ( )", "{!harmless} ( )", "{!harmless} ( )", "lower ( {text_value} )", "count ( * )", "pg_sleep ( 0 )", "pg_typeof ( {value} )",
		"pg_table_size ( 't' )", "{own} ( {value} )", "{!locking} ( 1 )", "{!locking} ( {value} )",
		"{!acting} ( )", "{!acting} ( )", "set_config ( 'app.mark' , 'x' , {bool} )", "setseed ( 0.5 )",
		"{!sequence} ( 'app.s' )", "setval ( 'app.s' , 7 )", "pg_notify ( 'app' , 'x' )",
		"query_to_xml ( {query_text} , true , false , '' )", "lo_creat ( 1 )", "lo_get ( 1 )",
		"pg_create_physical_replication_slot ( 'composed' )", "dblink_connect ( 'c' , '' )",
		"ts_stat ( {query_text} )", "pg_terminate_backend ( 0 )", "max ( {call} )", "sum ( 1 ) over ( )",
	},
	"query_text": {"'select pg_advisory_lock(7)'", "$$select pg_advisory_lock(7)$$", "'select to_tsvector(''x'')'"},
	"block":      {"$$begin end$$", "$do$ begin perform pg_advisory_lock(7); end $do$"},
	"bool":       {"true", "false"},
	"own":        {"app.reads", "app.writes", `"app"."writes"`, "app . reads", "app.inserts"},
	"harmless":   {"now", "random", "pg_backend_pid", "pg_is_in_recovery", "clock_timestamp", "gen_random_uuid", "pg_last_wal_replay_lsn", "version"},
	"locking": {
		"pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_xact_lock", "pg_try_advisory_xact_lock_shared", "pg_advisory_lock_shared",
	},
	"acting": {
		"pg_export_snapshot", "pg_current_xact_id", "txid_current", "pg_wal_replay_pause", "pg_reload_conf", "pg_stat_reset",
		"pg_switch_wal", "pg_promote", "pg_rotate_logfile", "lastval", "pg_current_wal_lsn", "pg_stat_clear_snapshot",
	},
	"sequence": {"nextval", "currval"},
}

// Schema makes the relations and functions that the statements name, in the
// database that they run in.
const Schema = `
create schema app;
create table t (id int, a int, b text, c text, d int[], e text, x text, key int, share int, no int,
	"update" int, "delete" int, "into" int, inserted date, updated_at date, for_update int, into_account int,
	set int, reset int, execute int, call int, nextval int, set_config int, pg_notify int, data text);
insert into t (id, a, b, c, d) values (1, 1, 'b', 'c', '{1}'), (2, 2, null, null, null);
create table "from" (a int);
create table pg_temperature (a int);
create table apg_temp (a int);
create view v as select 1;
create table users (id int primary key, name text, inserted date, updated_at date, u int);
insert into users values (1, 'a'), (2, 'b');
create table visits (returning_at date, update int, "into" int);
create table app.visits (id int);
create table app.users (id int);
create table app.t (a int, b int);
create table orders (user_id int);
create sequence app.s;
create view app.last_value as select 1 as last_value;
create function app.reads(anyelement) returns int stable language sql as 'select count(*)::int from t';
create function app.writes(anyelement) returns int language plpgsql as 'begin update t set a = a; return 1; end';
create function app.inserts(anyelement) returns int language plpgsql as 'begin insert into t values (1); return 1; end';
create procedure app.write_twice() language sql as 'update t set a = a; update t set a = a';
create function my_writing_function() returns int language plpgsql as 'begin delete from orders; return 1; end';
create function f(int) returns int stable language sql as 'select $1';
create function f() returns int stable language sql as 'select 1';
create function f(text) returns int stable language sql as 'select 1';
create function h(text) returns int stable language sql as 'select 1';
create function local(int) returns int stable language sql as 'select 1';
create function app.g(text) returns int stable language sql as 'select 1';
create function binary_thing(int) returns int immutable language sql as 'select $1';
`
