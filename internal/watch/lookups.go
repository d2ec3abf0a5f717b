package watch

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// lookupInterval is the time between two looks at what a host's name stands
// for. A connection stays with the address that it was made to, also when a
// failover has given the name to another server.
const lookupInterval = 5 * time.Second

// lookups finds out when the name of a host no longer leads to where the
// connection of a prober goes.
type lookups struct {
	next    time.Time
	running atomic.Bool
	left    atomic.Pointer[pgx.Conn] // whose address is not the name's any more
}

// moved reports whether p's connection leads to a server that its host's name
// does not stand for any more. The name is looked up now and then, beside the
// probes: a slow answer must not hold them up.
func (p *prober) moved() bool {
	l, conn, now := &p.lookups, p.conn, time.Now()
	switch {
	case conn == nil:
		return false
	case l.left.CompareAndSwap(conn, nil):
		return true
	case now.Before(l.next):
		return false
	}
	l.next = now.Add(lookupInterval)
	config := conn.Config()
	to, err := netip.ParseAddrPort(conn.PgConn().Conn().RemoteAddr().String())
	if err != nil {
		return false // a socket in the file system has no address
	}
	if _, err := netip.ParseAddr(config.Host); err == nil || !l.running.CompareAndSwap(false, true) {
		return false
	}
	p.watcher.done.Go(func() {
		defer l.running.Store(false)
		ctx, cancel := context.WithTimeout(p.context, p.watcher.options.Timeout)
		defer cancel()
		found, err := config.LookupFunc(ctx, config.Host)
		if err != nil || len(found) == 0 {
			return // that says nothing of where the name leads
		}
		for _, text := range found {
			if a, err := netip.ParseAddr(text); err == nil && a.Unmap() == to.Addr().Unmap() {
				return
			}
		}
		l.left.Store(conn)
		p.wake()
	})
	return false
}
