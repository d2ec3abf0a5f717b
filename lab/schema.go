package lab

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// The structure of tables is read from the catalogs and not with pg_dump, which
// small binary packages do not have and which refuses servers newer than itself.
// Each query returns statements with the thing that each one is about.

// publishedTree begins each query. tree are the given tables with their partitions
// and what those are partitions of; used are the types of their columns, with
// what these are made of at a greater depth; target is the application's role
// and the major version of the server that runs the statements.
const publishedTree = `with recursive tree as materialized (
	select c.oid, c.relname, c.relkind, c.relreplident, c.relispartition, c.relowner, s.nspname, format('%I.%I', s.nspname, c.relname) as name
	from (select unnest($1::oid[]) as oid
		union select p.relid::oid from unnest($1::oid[]) as t, pg_partition_tree(t) as p
		union select a::oid from unnest($1::oid[]) as t, pg_partition_ancestors(t) as a) as t
	join pg_class as c on c.oid = t.oid join pg_namespace as s on s.oid = c.relnamespace),
target as (select $2::text as app, $3::int as major),
types (oid, depth) as (
	select a.atttypid, 0 from pg_attribute as a join tree on tree.oid = a.attrelid where a.attnum > 0 and not a.attisdropped
	union select part, depth + 1 from types join pg_type as t using (oid), lateral (values (t.typelem), (t.typbasetype)) as parts (part) where part <> 0),
used as (select oid, max(depth) as depth from types group by oid)
`

const (
	schemaStatements = `select nspname, format('create schema if not exists %I', nspname) from tree where nspname <> 'public' group by nspname`

	usageStatements = `select nspname, format('grant usage on schema %I to %I', nspname, app) from tree, target
		where nspname <> 'public' and has_schema_privilege(app, nspname, 'usage') group by nspname, app`

	extensionStatements = `select e.extname, format('create schema if not exists %I; create extension if not exists %I schema %I', s.nspname, e.extname, s.nspname)
		from pg_extension as e join pg_namespace as s on s.oid = e.extnamespace
		where exists (select from pg_depend as d where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid
			and (d.classid = 'pg_type'::regclass and d.objid in (select oid from used)
				or d.classid = 'pg_opclass'::regclass and d.objid in (select unnest(i.indclass::oid[]) from pg_index as i join tree on tree.oid = i.indrelid)))
		order by e.oid`

	typeStatements = `select format('%I.%I', s.nspname, t.typname), case t.typtype
			when 'e' then format('create type %I.%I as enum (%s)', s.nspname, t.typname,
				(select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid))
			else format('create domain %I.%I as %s%s', s.nspname, t.typname, format_type(t.typbasetype, t.typtypmod),
				(select format(' collate %I.%I', n.nspname, l.collname) from pg_collation as l join pg_namespace as n on n.oid = l.collnamespace
					where l.oid = t.typcollation and t.typcollation <> (select typcollation from pg_type where oid = t.typbasetype))) end
		from used join pg_type as t using (oid) join pg_namespace as s on s.oid = t.typnamespace
		where t.typtype in ('e', 'd') and s.nspname not in ('pg_catalog', 'information_schema')
			and not exists (select from pg_depend as d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
		order by used.depth desc, t.oid`

	// The subscriber computes generated columns itself; virtual ones exist from
	// version 18 on.
	tableStatements = `select name, format('create table %s (%s)%s', name,
			(select string_agg(format('%I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
					(select format(' collate %I.%I', s.nspname, l.collname) from pg_collation as l join pg_namespace as s on s.oid = l.collnamespace
						where l.oid = a.attcollation and a.attcollation <> t.typcollation),
					case when a.attgenerated <> '' then format(' generated always as (%s) %s', pg_get_expr(d.adbin, d.adrelid),
						case when a.attgenerated = 'v' and major >= 18 then 'virtual' else 'stored' end) end,
					case when a.attnotnull then ' not null' end), ', ' order by a.attnum)
				from pg_attribute as a join pg_type as t on t.oid = a.atttypid
				left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
				where a.attrelid = tree.oid and a.attnum > 0 and not a.attisdropped),
			case when relkind = 'p' then ' partition by ' || pg_get_partkeydef(tree.oid) end)
		from tree, target order by tree.oid`

	ownerStatements = `select name, case when pg_get_userbyid(relowner) = app then format('alter table %s owner to %I', name, app)
			else format('grant select on %s to %I', name, app) end
		from tree, target where pg_get_userbyid(relowner) = app or has_table_privilege(app, oid, 'select')`

	parentStatements = `select child.name, case when child.relispartition
			then format('alter table %s attach partition %s %s', parent.name, child.name, (select pg_get_expr(relpartbound, oid) from pg_class where oid = child.oid))
			else format('alter table %s inherit %s', child.name, parent.name) end
		from pg_inherits as i join tree as child on child.oid = i.inhrelid join tree as parent on parent.oid = i.inhparent
		order by child.oid, i.inhseqno`

	// Partitions get their keys from what they are a partition of.
	keyStatements = `select name, format('alter table %s add constraint %I %s', name, c.conname, pg_get_constraintdef(c.oid))
		from pg_constraint as c join tree on tree.oid = c.conrelid where c.contype in ('p', 'u', 'x') and c.conparentid = 0
		order by c.oid`

	indexStatements = `select name, pg_get_indexdef(i.indexrelid)
		from pg_index as i join tree on tree.oid = i.indrelid
		where tree.relkind = 'r' and i.indisvalid
			and not exists (select from pg_constraint as c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
		order by i.indexrelid`

	identityStatements = `select name, format('alter table %s replica identity using index %I', name, x.relname)
		from tree join pg_index as i on i.indrelid = tree.oid and i.indisreplident join pg_class as x on x.oid = i.indexrelid
		where tree.relreplident = 'i'`
)

// schemaSteps make the tables. What is there already is left alone, and all that
// would be done to it.
var schemaSteps = []struct {
	statements string
	there      string // an expression; a step without one is about tables made before
}{
	{schemaStatements, "$1 = ''"},
	{usageStatements, "$1 = ''"},
	{extensionStatements, "not exists (select from pg_available_extensions where name = $1)"},
	{typeStatements, "to_regtype($1) is not null"},
	{tableStatements, "to_regclass($1) is not null"},
	{ownerStatements, ""},
	{parentStatements, ""},
	{keyStatements, ""},
	{indexStatements, ""},
	{identityStatements, ""},
}

// copySchema makes those of the primary's tables that the subscriber does not
// have, all or none.
func (n *Node) copySchema(ctx context.Context, primary *pgx.Conn, tables []uint32) error {
	if len(tables) == 0 {
		return nil
	}
	s := n.c.state()
	entry, err := n.subscriberEntry(s)
	if err != nil {
		return err
	}
	copyTables := func(tx pgx.Tx) error {
		made := make(map[string]bool)
		for _, step := range schemaSteps {
			rows, err := readStatements(ctx, primary, step.statements, tables, s.AppRole, entry.Subscriber.Major)
			if err != nil {
				return fmt.Errorf("read the structure of the tables: %w", err)
			}
			for _, row := range rows {
				skip := !made[row.About]
				if step.there != "" {
					if err := tx.QueryRow(ctx, "select "+step.there, row.About).Scan(&skip); err != nil {
						return err
					}
				}
				if skip {
					continue
				}
				made[row.About] = true
				if _, err := tx.Exec(ctx, row.SQL); err != nil {
					return fmt.Errorf("copy %s: %w: make it, or what it needs, in SubscriberOptions.Schema", row.About, err)
				}
			}
		}
		return nil
	}
	return n.withApplication(ctx, func(conn *pgx.Conn) error { return pgx.BeginFunc(ctx, conn, copyTables) })
}

// schemaRow is a statement and the thing it is about.
type schemaRow struct{ About, SQL string }

// readStatements reads without a search path, so that every name is written in
// full.
func readStatements(ctx context.Context, primary *pgx.Conn, statements string, tables []uint32, app string, major int) (rows []schemaRow, err error) {
	err = pgx.BeginFunc(ctx, primary, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local search_path = ''"); err != nil {
			return err
		}
		found, err := tx.Query(ctx, publishedTree+statements, oidArray(tables), app, strconv.Itoa(major))
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[schemaRow])
		return err
	})
	return rows, err
}
