package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// SubscriberOptions says what [Cluster.AddSubscriber] makes. The zero value
// subscribes to every table, with the cluster's own version of PostgreSQL.
type SubscriberOptions struct {
	// Name is the node's name: small letters, digits and underscores, beginning
	// with a letter. Empty means subscriber1, subscriber2 and so on.
	Name string

	// BinDir is the folder with the initdb and postgres programs, which may be
	// of another major version than the cluster's. Empty means the cluster's.
	BinDir string

	// Tables names the tables to publish, as in SQL. Empty means all permanent
	// tables there are in the application's database; those made later join by
	// [Node.Refresh].
	Tables []string

	// Schema, if not nil, runs on the subscriber first, for instance to migrate
	// it. The connection leads to the application's database; it is a
	// superuser's that has the application's role, until RESET ROLE. It may
	// make all published tables, some, or only what they need: tables that are
	// not there afterwards are copied from the primary's catalogs.
	//
	// Such a copy is made for reading: columns with types and NOT NULL,
	// generated columns, partitions, primary keys, unique and exclusion
	// constraints, indexes, and of what these need schemas, enums, domains and
	// extensions. It has no defaults, sequences, checks, foreign keys,
	// triggers, policies, views or functions.
	Schema func(context.Context, *pgx.Conn) error

	// Publication names the publication on the primary. If the primary has one
	// of that name it is used as it is, and Tables must be empty; else it is
	// made. Empty means a new one with the node's name.
	Publication string

	// Subscription names the subscription and its replication slot: small
	// letters, digits and underscores. Empty means the node's name.
	Subscription string

	_ struct{}
}

var (
	subscriberName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)
	slotName       = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	physicalName   = regexp.MustCompile(`^node[0-9]+$`)
)

func (o SubscriberOptions) check() error {
	if o.Name != "" && !subscriberName.MatchString(o.Name) {
		return fmt.Errorf("%q cannot be its name: give at most 40 small letters, digits and underscores, a letter first", o.Name)
	}
	if physicalName.MatchString(o.Name) || o.Name == scratchDir {
		return fmt.Errorf("%q is a name the lab gives: choose another", o.Name)
	}
	if o.Subscription != "" && !slotName.MatchString(o.Subscription) {
		return fmt.Errorf("%q cannot be its subscription's name: give at most 63 small letters, digits and underscores", o.Subscription)
	}
	if len(o.Publication) > 63 || strings.ContainsAny(o.Publication, "\x00\n\r") {
		return fmt.Errorf("%q cannot be its publication's name: at most 63 bytes on one line", o.Publication)
	}
	return nil
}

// AddSubscriber makes a server of its own, with the lab's three roles, their
// passwords and the application's database, that subscribes to the primary's
// changes by logical replication, and returns once the tables are copied. The
// application's role may read there how far it is.
//
// A subscriber has a system identifier and timelines of its own and takes
// writes, which go nowhere. What it shows is as new as the position in the
// primary's WAL that its subscription has reached, see [NodeStatus]. A crash may
// take both back a little, as subscriptions commit with synchronous_commit off:
// after [Node.Kill] it shows an older state until it has caught up. The settings
// of the cluster apply to it too, but for synchronous replication.
//
// The primary's WAL has to be logical, as it is unless [Options.Settings] say
// otherwise. A table without a primary key is given REPLICA IDENTITY FULL on
// the primary, which would else refuse its updates, unless the publication was
// there before. [Node.Stop], Start, Kill, Freeze and Thaw work as on every node;
// [Node.Cut] and PauseReplay disable the subscription, [Node.Heal] and
// ResumeReplay enable it.
//
// A promotion leaves a subscriber behind, with the old primary, as a slot is not
// part of what replicas copy; see [Node.Resubscribe].
func (c *Cluster) AddSubscriber(ctx context.Context, o SubscriberOptions) (*Node, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	n, err := c.addSubscriber(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("add a subscriber: %w", err)
	}
	c.logf("added subscriber %s", n.name)
	return n, nil
}

func (c *Cluster) addSubscriber(ctx context.Context, o SubscriberOptions) (*Node, error) {
	if err := c.mayStart(); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	bin := c.bin
	if o.BinDir != "" {
		var err error
		if bin, err = openBinaries(ctx, o.BinDir, c.state().Account); err != nil {
			return nil, err
		}
	}
	primary, err := c.backupSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := primary.mayPublish(ctx); err != nil {
		return nil, err
	}
	port, lock, err := claimPort(c.dir)
	if err != nil {
		return nil, err
	}
	entry, s, err := c.registerSubscriber(ctx, o, bin, primary.name, port)
	if err != nil {
		lock.Close()
		return nil, err
	}
	c.keepPort(entry.Name, lock)
	n, err := c.Node(entry.Name)
	var made published
	if err == nil {
		made, err = n.populateSubscriber(ctx, s, bin, primary, o)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", entry.Name, err)
		return nil, errors.Join(err, c.forget(entry.Name), made.takeBack(primary))
	}
	return n, nil
}

// mayPublish refuses a primary whose WAL lacks what subscribers need.
func (n *Node) mayPublish(ctx context.Context) error {
	var level string
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select current_setting('wal_level')").Scan(&level)
	})
	if err == nil && level != "logical" {
		err = fmt.Errorf("%s runs with wal_level %s: a subscriber needs logical: take it out of the settings and start the cluster again", n.name, level)
	}
	return err
}

// registerSubscriber gives the new node a name, a folder and an entry. The
// folder comes first, so that one of the same name that is not ours is refused.
func (c *Cluster) registerSubscriber(ctx context.Context, o SubscriberOptions, bin binaries, source string, port int) (entry nodeState, s *state, err error) {
	made := ""
	s, err = c.update(ctx, func(s *state) error {
		name := o.Name
		for number := 1; name == ""; number++ {
			if _, err := s.node("subscriber" + strconv.Itoa(number)); err != nil {
				name = "subscriber" + strconv.Itoa(number)
			}
		}
		if _, err := s.node(name); err == nil {
			return fmt.Errorf("there is a node %s: choose another name", name)
		}
		entry = nodeState{Name: name, Port: port, Subscriber: &subscriberState{
			BinDir: bin.dir, Version: bin.version, Major: bin.major, Source: source,
			Publication: orElse(o.Publication, name), Subscription: orElse(o.Subscription, name),
		}}
		for _, other := range s.Nodes {
			if other.Subscriber != nil && other.Subscriber.Subscription == entry.Subscriber.Subscription {
				return fmt.Errorf("%s has the subscription %s: choose another name", other.Name, entry.Subscriber.Subscription)
			}
		}
		dir := filepath.Join(c.dir, name)
		if err := makeNodeDir(dir, s.Account); err != nil {
			return err
		}
		made = dir
		s.Nodes = append(s.Nodes, entry)
		return nil
	})
	if err != nil && made != "" {
		err = errors.Join(err, os.Remove(made))
	}
	return entry, s, err
}

// populateSubscriber fills and starts a subscriber that has an empty folder.
// What it made on the primary it returns in any case.
func (n *Node) populateSubscriber(ctx context.Context, s *state, bin binaries, primary *Node, o SubscriberOptions) (made published, err error) {
	n.turn.Lock()
	defer n.turn.Unlock()
	if err := n.c.fillDataDirs(ctx, bin, s, n.dir, []string{n.dataDir()}); err != nil {
		return made, err
	}
	if err := n.start(ctx); err != nil {
		return made, err
	}
	err = n.withApplication(ctx, func(conn *pgx.Conn) error {
		if err := letRead(ctx, conn, s.AppRole); err != nil || o.Schema == nil {
			return err
		}
		if _, err := conn.Exec(ctx, "set role "+pgx.Identifier{s.AppRole}.Sanitize()); err != nil {
			return err
		}
		if err := o.Schema(ctx, conn); err != nil {
			return fmt.Errorf("make the schema: %w", err)
		}
		return nil
	})
	if err != nil {
		return made, err
	}
	if made, err = n.publish(ctx, primary, o); err != nil {
		return made, err
	}
	control, _, err := readControl(n.dataDir())
	if err != nil {
		return made, err
	}
	made.systemID = binary.NativeEndian.Uint64(control)
	made.slot, err = n.subscribe(ctx, primary)
	return made, err
}

// letRead lets the application's role read the position of the subscription,
// which pg_monitor does not.
func letRead(ctx context.Context, conn *pgx.Conn, role string) error {
	role = pgx.Identifier{role}.Sanitize()
	for _, grant := range []string{
		"grant execute on function pg_catalog.pg_replication_origin_progress(text, boolean) to " + role,
		"grant execute on function pg_catalog.pg_show_replication_origin_status() to " + role,
		"grant select on pg_catalog.pg_replication_origin_status to " + role,
	} {
		if _, err := conn.Exec(ctx, grant); err != nil {
			return fmt.Errorf("let the application read its position: %w", err)
		}
	}
	return nil
}

// withApplication is withConn in the application's database. Its own commits
// wait for no replica.
func (n *Node) withApplication(ctx context.Context, use func(*pgx.Conn) error) error {
	return n.withDatabase(ctx, n.c.state().Database, func(conn *pgx.Conn) error {
		// Statements may hold a password.
		const quiet = "set synchronous_commit = local; set log_statement = 'none'; set log_min_error_statement = panic; set log_min_duration_statement = -1"
		if _, err := conn.Exec(ctx, quiet); err != nil {
			return err
		}
		return use(conn)
	})
}

// subscriberEntry returns the entry of a node that has to be a subscriber.
func (n *Node) subscriberEntry(s *state) (*nodeState, error) {
	entry, err := s.node(n.name)
	if err == nil && entry.Subscriber == nil {
		err = errors.New("it is not a subscriber")
	}
	return entry, err
}

// streamsFrom reports whether the node's subscription can be expected to
// stream: nothing the lab did keeps it from it.
func (n *Node) streamsFrom(entry *nodeState) bool {
	if entry.Cut || entry.Subscriber.Paused {
		return false
	}
	source, err := n.c.Node(entry.Subscriber.Source)
	// A node that became a replica has lost the slot.
	return err == nil && source.runState() == Running && source.Role() == RolePrimary
}
