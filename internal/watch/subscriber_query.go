package watch

import "strings"

// SubscriberRun is an SQL expression that tells two runs of a subscriber apart, its
// server's or those of the worker that applies: a position is that of one worker.
// The subscription's name is $1.
const SubscriberRun = `((` + Incarnation + `) # (coalesce((select pid ` + applyWorker + `), 0)::bigint << 40))`

// applyWorker is the subscription's own worker, not one of those that copy tables
// or, from version 16 on, apply a large transaction for it.
const applyWorker = `
  from pg_stat_subscription w
 where w.subname = $1 and w.relid is null and to_jsonb(w) ->> 'leader_pid' is null and w.pid is not null
 limit 1`

// subscriberQuery asks for the subscription and its worker. latest_end_lsn is how
// far the primary had sent when it said so last; the worker takes its messages in
// order, so everything before that was applied.
var subscriberQuery = strings.ReplaceAll(subscriberText, "COMMIT", "null")

// subscriberOriginQuery also asks for the last transaction that was applied, which
// while there are many is newer. A role must have been granted that.
var subscriberOriginQuery = strings.ReplaceAll(subscriberText, "COMMIT",
	`(select remote_lsn::text from pg_show_replication_origin_status() where external_id = 'pg_' || s.oid)`)

const subscriberText = `
select pg_is_in_recovery(), s.oid::bigint, s.subenabled, s.subslotname::text, s.subpublications, w.pid::bigint,
       w.received_lsn::text, w.latest_end_lsn::text, COMMIT,
       (` + Incarnation + `) # (coalesce(w.pid, 0)::bigint << 40), current_setting('server_version_num')::int
  from (values (1)) as one
  left join (select pid, received_lsn, latest_end_lsn ` + applyWorker + `) w on true
  left join pg_subscription s
    on s.subname = $1 and s.subdbid = (select d.oid from pg_database d where d.datname = current_database())`

// mayOriginQuery asks whether the role may see how far an origin is.
const mayOriginQuery = `select has_function_privilege('pg_show_replication_origin_status()', 'execute')`

// stockMarkQuery asks for what changes when a table of the subscription does, or a
// relation is new. Temporary ones are not seen by others.
const stockMarkQuery = `
select concat_ws(' ',
       (select oid from pg_class where relpersistence <> 't' order by oid desc limit 1),
       (select concat(count(*), ' ', sum(hashtext(concat(srrelid, srsubstate, srsublsn))::bigint)) from pg_subscription_rel where srsubid = $1))`

// shape is what reads of a relation c depend on, beside its rows: columns, what is
// generated, and who is shown which rows.
const shape = `
md5(concat(c.relrowsecurity, c.relforcerowsecurity,
  (select string_agg(concat_ws(' ', a.attname, t.typname, a.atttypmod, a.attgenerated, pg_get_expr(g.adbin, g.adrelid)), ',' order by a.attnum)
     from pg_attribute a join pg_type t on t.oid = a.atttypid
     left join pg_attrdef g on a.attgenerated <> '' and g.adrelid = a.attrelid and g.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  case when c.relrowsecurity then
  (select string_agg(concat_ws(' ', p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
            (select string_agg(r.rolname, ' ' order by r.rolname) from pg_roles r where r.oid = any (p.polroles))), ',' order by p.polname)
     from pg_policy p where p.polrelid = c.oid) end))`

// stockQuery asks for all relations of the subscriber. Objects that initdb makes
// have an OID below 16384 and no dependencies: views over them show it in their rule.
const stockQuery = `
select c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text,
       case when c.relkind in ('r', 'p', 'v') then ` + shape + ` else '' end,
       coalesce(sr.srsubstate = 'r', false),
       (select array_agg(i.inhrelid::bigint order by i.inhrelid) from pg_inherits i where i.inhparent = c.oid),
       case when c.relkind = 'v' then
       (select array_agg(distinct d.refobjid::bigint)
          from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
           and d.refclassid = 'pg_class'::regclass and d.refobjid <> c.oid
         where r.ev_class = c.oid) end,
       c.relkind = 'v' and exists
       (select from pg_rewrite r
         where r.ev_class = c.oid
           and (r.ev_action::text ~ ':relid ([1-9][0-9]{0,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-3]) '
                or exists (select from pg_depend d
                            where d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_proc'::regclass)))
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_subscription_rel sr on sr.srrelid = c.oid and sr.srsubid = $1
 where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
 order by c.oid`

// outletQuery asks who holds the logical slots, and for what changes when a
// publication does.
func outletQuery(namespaces string) string {
	return `
select array_agg(slot_name::text), array_agg(active_pid), array_agg(confirmed_flush_lsn::text),
       concat_ws(' ',
       (select concat(count(*), ' ', sum(oid::bigint), ' ', sum(xmin::text::bigint)) from pg_publication),
       (select concat(count(*), ' ', sum(oid::bigint), ' ', sum(xmin::text::bigint)) from pg_publication_rel),
       ` + namespaces + `), ` + Incarnation + `
  from pg_replication_slots
 where slot_type = 'logical' and active_pid is not null and confirmed_flush_lsn is not null`
}

// offerNamespaces is a part of outletQuery from version 15 on.
const offerNamespaces = `(select concat(count(*), ' ', sum(oid::bigint), ' ', sum(xmin::text::bigint)) from pg_publication_namespace)`

// offerQuery asks for the tables that are published whole, and for all views.
func offerQuery(partly string) string {
	return `
with run as materialized (select ` + Incarnation + ` as run)
select p.pubname::text, n.nspname::text, c.relname::text, ` + shape + `, run
  from run cross join pg_publication p
  join pg_publication_tables pt on pt.pubname = p.pubname
  join pg_namespace n on n.nspname = pt.schemaname
  join pg_class c on c.relnamespace = n.oid and c.relname = pt.tablename
 where p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate and not (` + partly + `)
union all
select null, n.nspname::text, c.relname::text, ` + shape + `, run
  from run cross join pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'v' and n.nspname not in ('pg_catalog', 'information_schema')
 order by 1, 2, 3`
}

// offerPartly says from version 15 on that some rows or columns are left out.
const offerPartly = `exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = c.oid
                 and (r.prqual is not null or r.prattrs is not null))`
