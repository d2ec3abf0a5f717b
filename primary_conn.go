package pgtide

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// primaryConns are the network connections that were made to be the primary's,
// each for as long as it is open: idle in the primary pool, in use, or taken out
// of it for good, as one that listens is. The pool does not know the last.
type primaryConns struct {
	mu   sync.Mutex // guards open
	open map[*primaryConn]struct{}
}

// primaryConn is a network connection to a node that was the primary.
type primaryConn struct {
	net.Conn
	node  *node
	conns *primaryConns
}

// dialPrimary wraps a function that connects to n.
func (db *DB) dialPrimary(n *node, dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		// The driver asks a server to cancel what ran on a broken connection, and
		// keeps the connection's place in the pool until it has an answer. One that
		// hangs gives none.
		if err := db.stillPrimary(n); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := db.primaryConns.add(conn, n)
		if err := db.stillPrimary(n); err != nil { // leave may have come before add
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

func (db *DB) stillPrimary(n *node) error {
	if now := idOfPrimary(db.watch.View()); now != n.id && now != 0 {
		return fmt.Errorf("node %q is not the primary any more", n.name())
	}
	return nil
}

func (p *primaryConns) add(conn net.Conn, n *node) *primaryConn {
	c := &primaryConn{Conn: conn, node: n, conns: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[*primaryConn]struct{})
	}
	p.open[c] = struct{}{}
	return c
}

// Close implements [net.Conn].
func (c *primaryConn) Close() error {
	c.conns.mu.Lock()
	delete(c.conns.open, c)
	c.conns.mu.Unlock()
	return c.Conn.Close()
}

// leave closes all that lead elsewhere than to n. A server that hangs, or
// goes on as if nothing had happened, would never give their users an answer or
// a notification.
func (p *primaryConns) leave(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if c.node != n {
			_ = c.Conn.Close() // its user's Close forgets it
		}
	}
}
