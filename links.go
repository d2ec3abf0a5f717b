package pgtide

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/topology"
)

// use is what a connection serves.
type use uint32

const (
	connecting use = iota // nobody yet: it is being made
	idle                  // nobody
	reading               // a read that can be made elsewhere
	holding               // anything else
)

// link is a network connection to a node, below TLS, as others than its user see
// it: a server that hangs would never give that one an answer.
type link struct {
	net.Conn
	links *links
	use   atomic.Uint32
}

// linkOf returns the link below a driver's connection, or nil.
func linkOf(conn *pgconn.PgConn) *link {
	wire := conn.Conn()
	if t, ok := wire.(*tls.Conn); ok {
		wire = t.NetConn()
	}
	l, _ := wire.(*link)
	return l
}

// Close implements [net.Conn].
func (l *link) Close() error {
	l.links.mu.Lock()
	delete(l.links.open, l)
	l.links.mu.Unlock()
	return l.Conn.Close()
}

// SyscallConn implements [syscall.Conn], for who looks whether the server has
// closed the connection.
func (l *link) SyscallConn() (syscall.RawConn, error) {
	if c, ok := l.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// links are the open connections to a node.
type links struct {
	mu   sync.Mutex // guards open
	open map[*link]struct{}
}

func (s *links) add(conn net.Conn, u use) *link {
	l := &link{Conn: conn, links: s}
	l.use.Store(uint32(u))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*link]struct{})
	}
	s.open[l] = struct{}{}
	return l
}

// cut closes the connections whose use is one of which. Their users get the
// error of a broken connection.
func (s *links) cut(which func(use) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		if which(use(l.use.Load())) {
			_ = l.Conn.Close() // its user's Close forgets it
		}
	}
}

// dial wraps a function that connects to n, for connections that first serve u.
// The driver also uses it to ask a server to cancel what ran on a broken
// connection, whose place in the pool is kept until there is an answer.
func (db *DB) dial(n *node, u use, dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		// The watcher knocks at a silent server by itself. Others would wait there
		// for their connection, and more for them.
		if seen := db.seen(n); seen != nil && seen.State == topology.Down && seen.Misses > 0 {
			return nil, fmt.Errorf("it does not answer: %w", seen.Err)
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return n.links.add(conn, u), nil
	}
}
