package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// replayed is a connection that asks its server each question once and answers
// it by itself from then on: what is left of a call's time is the client's. Of a
// write no more than the first happens.
//
// It replays executions of prepared statements and what begins and ends
// transactions, which a driver sends whole. A driver that is reading already when
// it asks is answered by the server: pgx leaves a Read behind when the machine has
// kept it from writing for a while.
type replayed struct {
	net.Conn
	on atomic.Bool

	mu      sync.Mutex           // guards the fields below
	answers [2]map[string][]byte // outside and inside a transaction
	open    int                  // 1 inside a transaction
	asked   string               // the question under way, if its answer is to be kept
	got     []byte               // what has come of that answer
	ready   []byte               // what is to be read
	reading bool                 // from the server
}

func (c *replayed) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = ""
	if c.on.Load() && whole(b) {
		if a := c.answers[c.open][string(b)]; a != nil && !c.reading {
			c.ready = append(c.ready[:0], a...)
			c.end(a)
			return len(b), nil
		}
		c.asked, c.got = string(b), nil
	}
	return c.Conn.Write(b)
}

func (c *replayed) Read(b []byte) (int, error) {
	c.mu.Lock()
	if len(c.ready) > 0 {
		n := copy(b, c.ready)
		c.ready = c.ready[n:]
		c.mu.Unlock()
		return n, nil
	}
	c.reading = true
	c.mu.Unlock()
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if c.asked != "" {
		c.got = append(c.got, b[:n]...)
		if end := len(c.got) - 6; end >= 0 && bytes.Equal(c.got[end:end+5], []byte{'Z', 0, 0, 0, 5}) {
			c.answers[c.open][c.asked] = c.got
			c.asked = ""
			c.end(c.got)
		}
	}
	return n, err
}

// end notes what state an answer leaves the session in: its last byte says so.
func (c *replayed) end(answer []byte) {
	c.open = 0
	if answer[len(answer)-1] != 'I' {
		c.open = 1
	}
}

// SyscallConn lets pgtide look whether the server has closed the connection, as
// it does before it writes.
func (c *replayed) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}

// whole reports whether b is one request: from Bind to Sync, or a simple query.
func whole(b []byte) bool {
	sync := []byte{'S', 0, 0, 0, 4}
	return len(b) > 0 && (b[0] == 'B' && bytes.HasSuffix(b, sync) || b[0] == 'Q')
}

// dialer makes connections that are replayed once a pool has them. Those of
// pgtide's watcher never are.
type dialer struct{ made *sync.Map } // *replayed by local address

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	r := &replayed{Conn: c, answers: [2]map[string][]byte{{}, {}}}
	d.made.Store(c.LocalAddr().String(), r)
	return r, nil
}

func (d *dialer) begin(_ context.Context, conn *pgx.Conn) error {
	if r, ok := d.made.Load(conn.PgConn().Conn().LocalAddr().String()); ok {
		r.(*replayed).on.Store(true)
	}
	return nil
}

// configure prepares a pool of servers.
func (s servers) configure(_ string, config *pgxpool.Config) error {
	config.MaxConns = connections
	if s.replay != nil {
		config.ConnConfig.DialFunc = s.replay.dial
		config.AfterConnect = s.replay.begin
	}
	return nil
}

// connConfig is that of pgx/stdlib for a server.
func (s servers) connConfig(dsn string) (*pgx.ConnConfig, []stdlib.OptionOpenDB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil || s.replay == nil {
		return config, nil, err
	}
	config.DialFunc = pgconn.DialFunc(s.replay.dial)
	return config, []stdlib.OptionOpenDB{stdlib.OptionAfterConnect(s.replay.begin)}, nil
}

// registered makes the servers known to pgx/stdlib by names, for who opens them
// by a driver's name. There is no hook for a new connection: nap's are replayed
// from the start.
func (s servers) registered() (sources string, done func(), err error) {
	var names []string
	done = func() {
		for _, n := range names {
			stdlib.UnregisterConnConfig(n)
		}
	}
	for _, dsn := range []string{s.primary, s.replica} {
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			done()
			return "", nil, err
		}
		if s.replay != nil {
			config.DialFunc = s.replay.dialOn
		}
		names = append(names, stdlib.RegisterConnConfig(config))
	}
	return strings.Join(names, ";"), done, nil
}

func (d *dialer) dialOn(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := d.dial(ctx, network, address)
	if err == nil {
		c.(*replayed).on.Store(true)
	}
	return c, err
}
