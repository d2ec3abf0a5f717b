package watch

// Incarnation is an SQL expression that tells two runs of a server apart: the
// start of the postmaster and, as a crash of one backend restarts all the rest
// without it, the time at which that reset the statistics. Before version 15
// these were another process's, and asking for them would wait for it.
const Incarnation = Started + `
       + case when current_setting('server_version_num')::int >= 150000
              then (extract(epoch from pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint else 0 end`

// Started is the part of Incarnation that is the start of the postmaster.
const Started = `(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint`

// probeQuery asks for role, timeline and position in one query, and for the
// role once: a promotion freezes pg_last_wal_replay_lsn(), so a position read
// apart from its role would call a new primary "never caught up".
//
// The timeline of a primary is that of its current WAL file;
// pg_control_checkpoint() keeps the old one until the next checkpoint. That of
// a replica is the one it receives, which only members of pg_monitor may see;
// for others, and while the link is cut, the control file's: possibly too old,
// never too new.
const probeQuery = `
with r as materialized (select pg_is_in_recovery() as recovery)
select r.recovery,
       case when r.recovery then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end::text,
       case when r.recovery then pg_last_wal_receive_lsn() end::text,
       pg_last_wal_replay_lsn()::text,
       case when r.recovery then coalesce(
           (select received_tli from pg_stat_wal_receiver),
           (select timeline_id from pg_control_checkpoint())) end::bigint,
       case when not r.recovery then pg_walfile_name(pg_current_wal_insert_lsn()) end,
       case when r.recovery then pg_is_wal_replay_paused() else false end,
       ` + Incarnation + `,
       current_setting('server_version_num')::int
  from r`

// identityQuery asks for what does not change while a server runs, and for the
// process that answers.
const identityQuery = `
select system_identifier::text,
       pg_size_bytes(current_setting('wal_block_size')),
       pg_size_bytes(current_setting('wal_segment_size')),
       pg_backend_pid()
  from pg_control_system()`
