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
	handing               // a read of which a part was handed out
	holding               // anything else
)

// link is a network connection to a node, below TLS, as others than its user see
// it: a server that hangs would never give that one an answer.
type link struct {
	net.Conn
	links *links
	use   atomic.Uint32
	// since is when a read was sent that can be made elsewhere, on the watcher's
	// clock; zero is none.
	since atomic.Int64
}

func (l *link) is(u use) bool { return use(l.use.Load()) == u }

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

// cut closes the connections for which which holds. Their users get the error of
// a broken connection.
func (s *links) cut(which func(*link) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		if which(l) {
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
		if err := db.silent(n); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l := n.links.add(conn, u)
		if err := db.silent(n); err != nil { // the cut may have come before
			_ = l.Close()
			return nil, err
		}
		return l, nil
	}
}

// silent returns an error if n did not answer when it was last looked at.
func (db *DB) silent(n *node) error {
	select {
	case <-n.joined:
	default:
		return nil // a pool with a minimum of connections makes them before
	}
	if seen := db.seen(n); seen != nil && seen.State == topology.Down && seen.Misses > 0 {
		return fmt.Errorf("it does not answer: %w", seen.Err)
	}
	return nil
}

// stay is a time in which calls that chose a node may wait for a place in its
// pool. It ends when the node hangs, or is not the primary any more: who holds
// the places need not notice that for long.
type stay struct {
	context context.Context
	end     context.CancelFunc
}

func newStay() *stay {
	s := &stay{}
	s.context, s.end = context.WithCancel(context.Background())
	return s
}

// turnAway ends the stay of calls that wait for a place.
func (n *node) turnAway() { n.stay.Swap(newStay()).end() }

// while returns a context that ends with ctx and with s.
func (s *stay) while(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.context, cancel)
	return ctx, func() { stop(); cancel() }
}
