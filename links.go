package pgtide

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// use is what a connection serves.
type use uint32

const (
	idle    use = iota // nothing, or what nobody tells
	reading            // a read that can be made elsewhere
	holding            // anything else
)

// link is a connection of a node's pool, as others than its user see it.
type link struct {
	conn *pgx.Conn
	wire net.Conn // below TLS, whose goodbye would wait for an answer
	use  atomic.Uint32
}

// linkData is where a connection keeps its link.
const linkData = "pgtide link"

func linkOf(conn *pgconn.PgConn) *link {
	l, _ := conn.CustomData()[linkData].(*link)
	return l
}

// links are the open connections of a node's pool. A server that hangs would
// never give their users an answer.
type links struct {
	mu   sync.Mutex // guards open
	open map[*link]struct{}
}

func (s *links) add(conn *pgx.Conn) {
	l := &link{conn: conn, wire: conn.PgConn().Conn()}
	if t, ok := l.wire.(*tls.Conn); ok {
		l.wire = t.NetConn()
	}
	conn.PgConn().CustomData()[linkData] = l
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*link]struct{})
	}
	for old := range s.open {
		select {
		case <-old.conn.PgConn().CleanupDone():
			delete(s.open, old)
		default:
		}
	}
	s.open[l] = struct{}{}
}

// cut closes the connections whose use is one of which. Their users get the
// error of a broken connection.
func (s *links) cut(which func(use) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		if which(use(l.use.Load())) {
			_ = l.wire.Close() // its user's Close comes later, and fails
			delete(s.open, l)
		}
	}
}
