package pgtidetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// conformanceReads is how often a check looks where chance could hide a fault.
const conformanceReads = 20

// conformancePatience is how long a front may send reads to the primary alone.
const conformancePatience = 2 * time.Second

// errUndo is what a transaction is rolled back for.
var errUndo = errors.New("undo")

var conformanceChecks = []conformanceCheck{
	{"reads go to replicas", "a session that has written nothing reads from replicas", func(c *conformity) {
		m := c.front()
		ctx := m.session("")
		const text = "select count(*) from conformance"
		onReplica := func(n string) bool { return slices.Contains(c.tide.Replicas(), n) }
		// Where replicas are watched, a first look at them takes its time.
		for deadline := time.Now().Add(conformancePatience); ; {
			if _, err := m.front.Query(ctx, text); err != nil {
				c.Fatal(err)
			}
			nodes := c.served(text)
			if slices.ContainsFunc(nodes, onReplica) {
				return
			}
			if time.Now().After(deadline) {
				c.Fatalf("of %d reads within %v none went to a replica", len(nodes), conformancePatience)
			}
			<-time.After(5 * time.Millisecond)
		}
	}},
	{"read your writes", "a session sees what it has written", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		for i := range 5 {
			id := fmt.Sprint("own ", i)
			m.insert(ctx, id)
			m.want(ctx, id, true)
			c.behind(id)
		}
	}},
	{"a process reads its writes", "without a session, a process sees what it has written", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		m.insert(c.Context(), "plain")
		m.want(c.Context(), "plain", true)
		c.behind("plain")
	}},
	{"tokens", "a session goes on in another process", func(c *conformity) {
		one, other := c.front(), c.front()
		c.tide.Freeze()
		ctx := one.session("")
		one.insert(ctx, "carried")
		for range conformanceReads {
			other.want(other.session(one.token(ctx)), "carried", true)
		}
		c.behind("carried")
	}},
	{"monotonic reads", "what a session has seen does not vanish", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		other := c.tide.Connect(c.tide.Primary())
		if _, err := other.Exec(c.Context(), "insert into conformance values ('somebody')"); err != nil {
			c.Fatal(err)
		}
		c.tide.Step(c.tide.Replicas()[0]) // the other has not got it
		for range 4 {
			ctx := m.session("")
			saw := false
			for i := range conformanceReads {
				now := m.sees(ctx, "somebody")
				if saw && !now {
					c.Fatalf("read %d does not see what an earlier one saw", i+1)
				}
				saw = saw || now
			}
		}
	}},
	{"transactions", "a transaction sees its own writes, and nobody does once it is rolled back", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		err := m.front.Tx(ctx, false, func(ctx context.Context, tx Statements) error {
			if err := tx.Exec(ctx, "insert into conformance values ($1)", "undone"); err != nil {
				return err
			}
			c.wants(ctx, tx, "undone", true)
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			c.Errorf("the transaction ends with %v, want the error that it was rolled back for", err)
		}
		m.want(ctx, "undone", false)
		if n := c.stored("conformance", "undone"); n != 0 {
			c.Errorf("%d rows of a transaction that was rolled back are stored", n)
		}
	}},
	{"commits", "a session sees what it has committed", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		err := m.front.Tx(ctx, false, func(ctx context.Context, tx Statements) error {
			return tx.Exec(ctx, "insert into conformance values ($1)", "committed")
		})
		if err != nil {
			c.Fatal(err)
		}
		m.want(ctx, "committed", true)
		c.behind("committed")
	}},
	{"read-only transactions", "a read-only transaction sees what the session has written, and refuses to write", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		m.insert(ctx, "before")
		err := m.front.Tx(ctx, true, func(ctx context.Context, tx Statements) error {
			c.wants(ctx, tx, "before", true)
			return tx.Exec(ctx, "insert into conformance values ($1)", "refused")
		})
		c.wantCode(err, "25006")
		if n := c.stored("conformance", "refused"); n != 0 {
			c.Errorf("%d rows of a read-only transaction are stored", n)
		}
	}},
	{"reads that write", "a query whose function writes is done, once, and seen", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		rows, err := m.front.Query(ctx, "select conformance_write($1)", "function")
		if err != nil || len(rows) != 1 {
			c.Fatalf("the function returns %v, %v; want a row", rows, err)
		}
		m.want(ctx, "function", true)
	}},
	{"locks", "locks are taken at the primary", func(c *conformity) {
		m := c.front()
		ctx := m.session("")
		for _, text := range []string{"select pg_advisory_xact_lock(42)", "select id from conformance for update"} {
			if _, err := m.front.Query(ctx, text); err != nil {
				c.Errorf("%s: %v", text, err)
			}
			if nodes := c.served(text); !slices.Contains(nodes, c.tide.Primary()) {
				c.Errorf("%s was sent to %v, want the primary", text, nodes)
			}
		}
	}},
	{"a write is not run twice", "a write whose answer is lost is not made again, and its author is told", func(c *conformity) {
		m := c.front()
		ctx := m.session("")
		c.witness.sever("insert into conformance_log")
		err := m.front.Exec(ctx, "insert into conformance_log values ($1)", "once")
		if err == nil {
			c.Errorf("the write is said to have succeeded; its answer was lost")
		}
		if n := c.stored("conformance_log", "once"); n != 1 {
			c.Errorf("the row is stored %d times, want once", n)
		}
	}},
	{"errors", "errors of the server arrive as such", func(c *conformity) {
		m := c.front()
		ctx := m.session("")
		m.insert(ctx, "double")
		c.wantCode(m.front.Exec(ctx, "insert into conformance values ($1)", "double"), "23505")
		_, err := m.front.Query(ctx, "select nothing from conformance")
		c.wantCode(err, "42703")
	}},
	{"goroutines", "one session may be used by many goroutines, and each sees its writes", func(c *conformity) {
		m := c.front()
		c.tide.Freeze()
		ctx := m.session("")
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 3 {
					id := fmt.Sprint("goroutine ", g, ".", i)
					if err := m.front.Exec(ctx, "insert into conformance values ($1)", id); err != nil {
						c.Error(err)
						continue
					}
					rows, err := m.front.Query(ctx, "select id from conformance where id = $1", id)
					if err != nil || len(rows) != 1 {
						c.Errorf("%s reads %v, %v; want its row", id, rows, err)
					}
				}
			})
		}
		all.Wait()
	}},
}

// wantCode fails the check unless err is the server's, with this code.
func (c *conformity) wantCode(err error, code string) {
	c.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		c.Errorf("error %v, want a *pgconn.PgError with code %s", err, code)
	}
}
