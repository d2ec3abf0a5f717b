// Package alive tells a connection that its server has closed from one that is
// idle, without a round trip.
//
// A write to a connection whose server is gone succeeds: the kernel takes it,
// and only the answer is missing. Whoever must not send a thing twice has to
// know before. What cannot be seen here, such as a cut network, stays for the
// answer to tell.
package alive

import (
	"net"
	"syscall"
)

// Check reports whether conn, which must be idle, may be written to. It is
// false when the peer has closed it, or has sent the error with which a
// PostgreSQL server ends a connection. Where the system cannot tell, it is true.
// It never waits, not even for another reader of conn.
func Check(conn net.Conn) bool {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return closedOnly(t.NetConn()) // TLS: what was sent cannot be read here
	}
	return check(conn, func(first byte) bool { return first != 'E' })
}

// closedOnly is Check for a connection whose bytes say nothing.
func closedOnly(conn net.Conn) bool {
	return check(conn, func(byte) bool { return true })
}

func check(conn net.Conn, well func(first byte) bool) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	open := true
	// Not raw.Read: it would wait its turn behind a Read that is under way. After a
	// slow write pgx may leave one behind on an idle connection, which nothing ends
	// but the next answer of the server.
	err = raw.Control(func(fd uintptr) {
		first, n, err := peek(fd)
		switch {
		case err != nil:
			open = wouldBlock(err)
		case n == 0:
			open = false
		default:
			open = well(first)
		}
	})
	return open && err == nil
}
