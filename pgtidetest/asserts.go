package pgtidetest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// ServedBy fails the test unless the newest call of ctx's session went to a node
// of this role, and returns the decision. ctx must carry a session.
func ServedBy(t testing.TB, ctx context.Context, want pgtide.Role) pgtide.Decision {
	t.Helper()
	if !pgtide.HasSession(ctx) {
		t.Errorf("pgtidetest: the context has no session that remembers decisions: begin one with pgtide.NewSession")
		return pgtide.Decision{}
	}
	all := pgtide.Explain(ctx)
	if len(all) == 0 {
		t.Errorf("pgtidetest: the session has made no call, want one served by the %s", want)
		return pgtide.Decision{}
	}
	last := all[len(all)-1]
	if last.Role != want {
		t.Errorf("pgtidetest: the last call was served by %s, want the %s; the session's decisions:%s", last, want, lines(all))
	}
	return last
}

// NoPrimaryReads runs f and fails the test if a read went to the primary
// meanwhile: because replicas lacked what it had to see, because the program said
// so, or because the statement was not surely a read. Writes, transactions that
// may write and statements that act on the server session do not count. It looks
// at all calls through the DBs of c, on whatever goroutine, but not at those that
// stay where a transaction began.
func (c *Tide) NoPrimaryReads(t testing.TB, f func()) {
	t.Helper()
	var found events
	stop := c.trace.observe(&observer{decided: func(e event) {
		if e.decision.Role != pgtide.RolePrimary {
			return
		}
		switch e.decision.Reason {
		case pgtide.ReasonWrite, pgtide.ReasonSessionBound, pgtide.ReasonTransaction, pgtide.ReasonRefused, pgtide.ReasonPinned:
		default:
			found.add(e)
		}
	}})
	defer stop()
	f()
	stop()
	if list := found.list(); len(list) > 0 {
		t.Errorf("pgtidetest: %d reads went to the primary (where a statement is not understood but reads, pgtide.OnReplica says so):%s", len(list), lines(list))
	}
}

// NoWrites runs f and fails the test if something was written meanwhile, also in
// a transaction that was rolled back or by a function in a SELECT: the primary is
// asked for the transactions that it numbered, which it does for those that write.
// A transaction that is still open when f returns counts by its statements alone.
//
// An existing cluster may be written to by others; there only statements count
// that say of themselves that they wrote.
func (c *Tide) NoWrites(t testing.TB, f func()) {
	t.Helper()
	var found events
	stop := c.trace.observe(&observer{finished: func(e event) {
		if wrote(e.tag) || e.decision != nil && e.decision.Reason == pgtide.ReasonWrite {
			found.add(e)
		}
	}})
	defer stop()
	before := c.numbered(t)
	f()
	after := c.numbered(t)
	stop()
	list := found.list()
	switch {
	case len(list) > 0:
		t.Errorf("pgtidetest: %d statements wrote:%s", len(list), lines(list))
	case after != before:
		t.Errorf("pgtidetest: %d transactions wrote, by a function, a lock on a row or a connection of their own; %s", after-before, c.trace)
	}
}

// numbered returns how many transactions the primary has given a number and
// ended.
func (c *Tide) numbered(t testing.TB) (n int64) {
	t.Helper()
	if _, ok := c.source.(*existing); ok {
		return 0
	}
	ctx, cancel := c.context()
	defer cancel()
	c.servers.mu.Lock()
	defer c.servers.mu.Unlock()
	var conn *pgx.Conn
	conn, err := c.servers.conn(ctx, c.source.Cluster().Primary)
	if err == nil {
		err = conn.QueryRow(ctx, "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&n)
	}
	if err != nil {
		t.Fatalf("pgtidetest: ask the primary for its transactions: %v", err)
	}
	return n
}

// wrote reads a server's word for what it did. One that found no row to change
// says so too, and is a write all the same.
func wrote(tag string) bool {
	for one := range strings.SplitSeq(tag, "; ") {
		verb, _, _ := strings.Cut(one, " ")
		switch verb {
		case "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "GRANT", "REVOKE", "REFRESH", "REINDEX", "NOTIFY":
			return true
		}
	}
	return false
}

// events are collected on many goroutines.
type events struct {
	mu  sync.Mutex // guards all
	all []event
}

func (l *events) add(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *events) list() []*event {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*event, len(l.all))
	for i := range l.all {
		list[i] = &l.all[i]
	}
	return list
}

// lines puts each on a line of its own.
func lines[T interface{ String() string }](all []T) string {
	var b strings.Builder
	for _, one := range all {
		b.WriteString("\n\t" + one.String())
	}
	return b.String()
}
