// Package lag measures how long after a commit on the primary each replica shows
// the row.
//
// It asks for the rows themselves, as an application would, and trusts neither
// positions nor clocks: a row counts as shown once a query on the replica returns
// it, and all times are taken in this process. They run from the moment the
// insert was sent, so that none is shorter than the replica's apply delay, which
// the server counts from the commit; they are longer than the truth by at most
// the time of the insert, one query and [Resolution].
package lag

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Resolution is how often a replica is asked for a row it does not have yet.
const Resolution = 5 * time.Millisecond

// Defaults of [Options].
const (
	DefaultInterval = time.Second
	DefaultPatience = 10 * time.Second
)

const (
	queueLength = 4096            // rows that may wait for a replica before the inserts do
	dropLimit   = 2 * time.Second // a primary that is gone must not hold up the end
)

// Node is a server by name and the connection URL of a role that may create
// tables.
type Node struct{ Name, DSN string }

// Options says what to measure. The zero value is a row each second for ever.
type Options struct {
	Primary  Node
	Replicas []Node

	// Rows is how many rows are inserted. Zero means until the context ends.
	Rows int

	// Interval is the time between two inserts. Zero means [DefaultInterval].
	Interval time.Duration

	// Patience is how long a row is waited for on each replica. It should
	// exceed every apply delay. Zero means [DefaultPatience].
	Patience time.Duration
}

// Row is one inserted row and what became of it.
type Row struct {
	Number    int       // from 1
	Committed time.Time // when the primary had answered
	Seen      []Sight   // one for each of Options.Replicas, in their order
}

// Sight is when a replica showed a row.
type Sight struct {
	After time.Duration // since the insert was sent
	Err   error         // why it was not seen within the patience; then After is 0
}

// ErrNotSeen is the [Sight.Err] of a replica that answers but lacks the row.
var ErrNotSeen = errors.New("not seen")

// Measure inserts rows into a table of its own, which it drops in the end, and
// reports each row, in order, once every replica has shown it or was waited for
// long enough. It returns nil after Options.Rows rows, the context's error if
// that ends first, and otherwise what the primary said. A replica that cannot be
// asked is no error: it may come back.
func Measure(ctx context.Context, o Options, report func(Row)) (err error) {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	table := "pgtide_lag_" + rand.Text()[:8] // a run of its own beside others
	conn, err := connect(ctx, o.Primary, o.Patience)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", o.Primary.Name, err)
	}
	defer closeConn(conn)
	if err := exec(ctx, conn, o.Patience, "create table "+table+" (row bigint not null)"); err != nil {
		return fmt.Errorf("create a table on %s: %w", o.Primary.Name, err)
	}
	defer func() {
		if dropped := drop(conn, o.Primary, table); err == nil && dropped != nil {
			err = fmt.Errorf("drop table %s on %s: %w", table, o.Primary.Name, dropped)
		}
	}()

	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	seen := make([]chan Sight, len(o.Replicas))
	queues := make([]chan sent, len(o.Replicas))
	for i, replica := range o.Replicas {
		seen[i], queues[i] = make(chan Sight), make(chan sent, queueLength)
		w := &watcher{node: replica, table: table, patience: o.Patience}
		watchers.Go(func() { w.run(ctx, queues[i], seen[i]) })
	}
	rows := make(chan sent, queueLength)
	inserted := make(chan error, 1)
	watchers.Go(func() {
		defer close(rows)
		inserted <- insert(ctx, conn, table, o, append(queues, rows))
	})
	for row := range rows {
		r := Row{Number: row.number, Committed: row.committed}
		for i := range seen {
			select {
			case s := <-seen[i]:
				r.Seen = append(r.Seen, s)
			case <-ctx.Done():
				return outer.Err()
			}
		}
		report(r)
	}
	if err := <-inserted; err != nil && outer.Err() == nil {
		return fmt.Errorf("insert on %s: %w", o.Primary.Name, err)
	}
	return outer.Err()
}

// sent is a row on its way.
type sent struct {
	number    int
	at        time.Time
	committed time.Time
}

// insert writes a row at each interval and hands it to everybody.
func insert(ctx context.Context, conn *pgx.Conn, table string, o Options, queues []chan sent) error {
	ticker := time.NewTicker(o.Interval)
	defer ticker.Stop()
	for number := 1; ; number++ {
		row := sent{number: number, at: time.Now()}
		if err := exec(ctx, conn, o.Patience, fmt.Sprintf("insert into %s values (%d)", table, number)); err != nil {
			return err
		}
		row.committed = time.Now()
		for _, queue := range queues {
			select {
			case queue <- row:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if number == o.Rows {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drop removes our table even though the caller's context has ended, which may
// have broken the connection.
func drop(conn *pgx.Conn, primary Node, table string) (err error) {
	if conn.IsClosed() {
		if conn, err = connect(context.Background(), primary, dropLimit); err != nil {
			return err
		}
		defer closeConn(conn)
	}
	return exec(context.Background(), conn, dropLimit, "drop table "+table)
}

// exec runs one statement within the limit.
func exec(ctx context.Context, conn *pgx.Conn, limit time.Duration, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return err
}

// connect opens a connection that sends each statement as it is: a statement
// about a table that a replica does not have yet cannot be prepared there.
func connect(ctx context.Context, n Node, limit time.Duration) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	config, err := pgx.ParseConfig(n.DSN)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "pgtide lag"
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// closeConn says goodbye, but not for long: the server may be frozen.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	conn.Close(ctx)
}
