package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Node is one server of a cluster: the primary, a replica or a subscriber. Its
// name, port and folder never change. It is safe for use by many goroutines at once.
type Node struct {
	c    *Cluster
	name string
	port int
	dir  string
	// subscriber: the node is one for life.
	subscriber bool

	turn sync.Mutex // held by whatever starts or rebuilds the node

	mu       sync.Mutex  // guards the fields below
	srv      *supervised // nil if this process did not start the server
	logStart int64       // where the log of the latest start begins
}

// Name returns the node's name, such as node2.
func (n *Node) Name() string { return n.name }

// Port returns the TCP port on 127.0.0.1.
func (n *Node) Port() int { return n.port }

// DSN returns the connection URL of the application's role, with its password
// if there is one.
func (n *Node) DSN() string {
	s := n.c.state()
	return dsn(s, s.AppRole, n.port)
}

// SuperDSN returns the connection URL of the superuser in the application's
// database, for tools and for tests that prepare what the application may not.
func (n *Node) SuperDSN() string { return dsn(n.c.state(), superuserRole, n.port) }

// Log returns the last lines the server logged, at most limit, oldest first.
func (n *Node) Log(limit int) []string { return n.logSince(0, limit) }

func (n *Node) logPath() string { return filepath.Join(n.dir, "server.log") }
func (n *Node) dataDir() string { return filepath.Join(n.dir, "data") }

// logTail is the log of the latest start, so that old trouble does not show up
// in the error about a new one.
func (n *Node) logTail() []string {
	n.mu.Lock()
	start := n.logStart
	n.mu.Unlock()
	return n.logSince(start, logTailLines)
}

func (n *Node) logSince(start int64, limit int) []string {
	f, err := os.Open(n.logPath())
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	// A line is rarely longer than this on average.
	const lineBytes = 1024
	from := info.Size() - int64(limit)*lineBytes
	cut := from > start
	if !cut {
		from = start
	}
	text, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return nil
	}
	lines := splitLines(text)
	if cut && len(lines) > 1 {
		lines = lines[1:] // the first one is not whole
	}
	if len(lines) > limit {
		lines = lines[len(lines)-limit:]
	}
	return lines
}

func (n *Node) exists(name string) bool {
	_, err := os.Stat(filepath.Join(n.dataDir(), name))
	return err == nil
}

// standby reports whether the node is, or would start as, a replica: the
// server removes the file when it leaves recovery.
func (n *Node) standby() bool { return !n.subscriber && n.exists("standby.signal") }

// Role returns RolePrimary, RoleReplica or RoleSubscriber. It is read from the
// node's folder and needs no running server. A primary that a promotion has
// overtaken is one still; [Cluster.Primary] tells which one counts.
func (n *Node) Role() string {
	switch {
	case n.subscriber:
		return RoleSubscriber
	case n.standby():
		return RoleReplica
	}
	return RolePrimary
}

// timeline returns the newest timeline the node has WAL or history of.
func (n *Node) timeline() uint32 {
	entries, _ := os.ReadDir(filepath.Join(n.dataDir(), "pg_wal")) // none reads as 0
	var newest uint32
	for _, entry := range entries {
		name := entry.Name()
		if !segmentName.MatchString(name) && !strings.HasSuffix(name, ".history") || len(name) < 8 {
			continue
		}
		if tli, err := strconv.ParseUint(name[:8], 16, 32); err == nil {
			newest = max(newest, uint32(tli))
		}
	}
	return newest
}

// connect opens a superuser's connection to a database of the server.
func (n *Node) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	s := n.c.state()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s sslmode=disable", loopback, n.port, superuserRole))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.name, err)
	}
	config.Database = database
	config.Password = s.Passwords[superuserRole]
	config.RuntimeParams = map[string]string{"application_name": "pgtide lab"}
	config.ValidateConnect = nil
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.name, err)
	}
	return conn, nil
}

// withConn runs use on a connection to a server that must be running.
func (n *Node) withConn(ctx context.Context, use func(*pgx.Conn) error) error {
	return n.withDatabase(ctx, "postgres", use)
}

// withDatabase is withConn in the named database.
func (n *Node) withDatabase(ctx context.Context, database string, use func(*pgx.Conn) error) error {
	if err := n.needRunning(); err != nil {
		return err
	}
	conn, err := n.connect(ctx, database)
	if err != nil {
		return err
	}
	err = use(conn)
	// The session is over whatever this returns; a frozen server must not
	// hold us up for the default of several seconds.
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	conn.Close(bye)
	return err
}

// needRunning names the state that stands in the way.
func (n *Node) needRunning() error {
	if err := n.c.open(); err != nil {
		return err
	}
	switch n.runState() {
	case Frozen:
		return fmt.Errorf("%s is frozen: thaw it first", n.name)
	case Stopped:
		return fmt.Errorf("%s is stopped: start it first", n.name)
	}
	return nil
}

// needStandby refuses what only makes sense on a replica.
func (n *Node) needStandby() error {
	if err := n.c.open(); err != nil {
		return err
	}
	if n.subscriber {
		return fmt.Errorf("%s is a subscriber, not a replica", n.name)
	}
	if !n.standby() {
		return fmt.Errorf("%s is not a replica", n.name)
	}
	return nil
}

// writeConf renders the node's configuration from the state.
func (n *Node) writeConf(s *state, whole bool) error {
	entry, err := s.node(n.name)
	if err != nil {
		return err
	}
	write := func(name, text string) error {
		return replaceFile(filepath.Join(n.dataDir(), name), []byte(text), s.Account)
	}
	if whole {
		err = errors.Join(write("postgresql.conf", renderServerConf(s, entry)), write("pg_hba.conf", renderHBA(s)))
	}
	if err = errors.Join(err, write(nodeConfFile, renderNodeConf(s, entry))); err != nil {
		return fmt.Errorf("configure %s: %w", n.name, err)
	}
	return nil
}
