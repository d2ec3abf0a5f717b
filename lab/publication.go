package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// published is what a subscriber has on the primary.
type published struct {
	publication string   // if we made it
	full        []string // tables that we gave a replica identity
	slot        string   // if it was not there before
	systemID    uint64   // of the subscriber, which is in the names of slots for copies
}

// takeBack removes it all. The subscriber must have ended.
func (p published) takeBack(primary *Node) error {
	if p.publication == "" && p.slot == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	err := primary.withApplication(ctx, func(conn *pgx.Conn) error {
		err := dropSlots(ctx, conn, p.slot, fmt.Sprintf("pg\\_%%\\_sync\\_%%\\_%d", p.systemID))
		if p.publication != "" {
			_, errDrop := conn.Exec(ctx, "drop publication if exists "+pgx.Identifier{p.publication}.Sanitize())
			err = errors.Join(err, errDrop)
		}
		for _, table := range p.full {
			_, errAlter := conn.Exec(ctx, "alter table if exists "+table+" replica identity default")
			err = errors.Join(err, errAlter)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take back what it made on %s: %w", primary.name, err)
	}
	return nil
}

// dropSlots removes a slot, if there is one, and those whose names match a
// pattern, as soon as nobody uses them.
func dropSlots(ctx context.Context, conn *pgx.Conn, slot, pattern string) error {
	const found = " from pg_replication_slots where slot_name = $1 or slot_name like $2"
	err := poll(ctx, pollInterval, func() (bool, error) {
		var busy bool
		err := conn.QueryRow(ctx, "select coalesce(bool_or(active), false)"+found, slot, pattern).Scan(&busy)
		return !busy, err
	})
	if err == nil {
		_, err = conn.Exec(ctx, "select pg_drop_replication_slot(slot_name)"+found, slot, pattern)
	}
	if err != nil {
		return fmt.Errorf("drop replication slot %s: %w", slot, err)
	}
	return nil
}

// publish makes the tables on the subscriber and the publication on the
// primary. What it made there it returns in any case.
func (n *Node) publish(ctx context.Context, primary *Node, o SubscriberOptions) (made published, err error) {
	entry, err := n.subscriberEntry(n.c.state())
	if err != nil {
		return made, err
	}
	name := entry.Subscriber.Publication
	own := false
	err = primary.withApplication(ctx, func(conn *pgx.Conn) error {
		there, err := hasPublication(ctx, conn, name)
		switch {
		case err != nil:
			return err
		case there && o.Publication == "":
			return fmt.Errorf("%s has a publication %s: name one that is to be used, or a new one", primary.name, name)
		case there && len(o.Tables) > 0:
			return fmt.Errorf("%s has a publication %s: name no tables, it says which", primary.name, name)
		case there:
			if err := letCopy(ctx, conn); err != nil {
				return err
			}
			tables, err := publicationTables(ctx, conn, name)
			if err != nil {
				return err
			}
			return n.copySchema(ctx, conn, tables)
		}
		own = true
		tables, err := chosenTables(ctx, conn, o.Tables)
		if err != nil {
			return err
		}
		if err := n.copySchema(ctx, conn, tables); err != nil {
			return err
		}
		made, err = createPublication(ctx, conn, name, tables)
		return err
	})
	if err != nil {
		return made, err
	}
	_, err = n.c.update(ctx, func(s *state) error {
		entry, err := n.subscriberEntry(s)
		if err == nil {
			entry.Subscriber.Own, entry.Subscriber.All = own, own && len(o.Tables) == 0
		}
		return err
	})
	return made, err
}

func hasPublication(ctx context.Context, conn *pgx.Conn, name string) (there bool, err error) {
	err = conn.QueryRow(ctx, "select exists (select from pg_publication where pubname = $1)", name).Scan(&there)
	return there, err
}

// letCopy lets the role of replication read what it is to copy, row policies
// or not. Two at once would be an error of the server's.
func letCopy(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "select pg_advisory_xact_lock(hashtext('pgtide lab')); grant pg_read_all_data to "+replicationRole+"; alter role "+replicationRole+" bypassrls")
	if err != nil {
		return fmt.Errorf("let %s copy: %w", replicationRole, err)
	}
	return nil
}

// createPublication makes a publication of tables and nothing else: one for all
// tables would stop its subscribers at the first new table that they lack.
func createPublication(ctx context.Context, conn *pgx.Conn, name string, tables []uint32) (made published, err error) {
	if err := letCopy(ctx, conn); err != nil {
		return made, err
	}
	sql := "create publication " + pgx.Identifier{name}.Sanitize()
	names, err := tableNames(ctx, conn, tables)
	if err != nil {
		return made, err
	}
	if len(names) > 0 {
		sql += " for table only " + strings.Join(names, ", only ")
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return made, fmt.Errorf("publish: %w", err)
	}
	made.publication = name
	made.full, err = identify(ctx, conn, tables)
	return made, err
}

// identify gives the tables and their partitions that have no primary key
// another replica identity, and returns which. Without one the primary refuses
// updates of a published table.
func identify(ctx context.Context, conn *pgx.Conn, tables []uint32) ([]string, error) {
	rows, err := conn.Query(ctx, `select c.oid::regclass::text from pg_class as c
		where c.oid in (select unnest($1::oid[]) union select p.relid from unnest($1::oid[]) as t, pg_partition_tree(t) as p)
			and c.relkind = 'r' and c.relreplident = 'd'
			and not exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary)`, oidArray(tables))
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if _, err := conn.Exec(ctx, "alter table "+name+" replica identity full"); err != nil {
			return names[:i], fmt.Errorf("give %s a replica identity: %w", name, err)
		}
	}
	return names, nil
}

// chosenTables resolves the tables a caller names, or all that can be
// published: permanent ones that no extension and no other table brought.
func chosenTables(ctx context.Context, conn *pgx.Conn, names []string) ([]uint32, error) {
	if len(names) == 0 {
		return tableIDs(ctx, conn, `select c.oid from pg_class as c join pg_namespace as s on s.oid = c.relnamespace
			where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
				and s.nspname <> 'information_schema' and s.nspname !~ '^pg_'
				and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
			order by s.nspname, c.relname`)
	}
	var tables []uint32
	for _, name := range names {
		found, err := tableIDs(ctx, conn, "select oid from pg_class where oid = to_regclass($1) and relkind in ('r', 'p')", name)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("there is no table %s on the primary", name)
		}
		tables = append(tables, found...)
	}
	return tables, nil
}

func publicationTables(ctx context.Context, conn *pgx.Conn, publication string) ([]uint32, error) {
	return tableIDs(ctx, conn, "select format('%I.%I', schemaname, tablename)::regclass::oid from pg_publication_tables where pubname = $1 order by 1", publication)
}

func tableIDs(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]uint32, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uint32])
}

// tableNames returns the names as SQL wants them.
func tableNames(ctx context.Context, conn *pgx.Conn, tables []uint32) ([]string, error) {
	rows, err := conn.Query(ctx, `select format('%I.%I', s.nspname, c.relname) from unnest($1::oid[]) with ordinality as t (id, place)
		join pg_class as c on c.oid = t.id join pg_namespace as s on s.oid = c.relnamespace order by t.place`, oidArray(tables))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// oidArray writes an array for a statement that is sent as text.
func oidArray(ids []uint32) string {
	text := fmt.Sprint(ids) // [1 2 3]
	return "{" + strings.ReplaceAll(strings.Trim(text, "[]"), " ", ",") + "}"
}
