package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/internal/front"
	"github.com/pgtide/pgtide/internal/sqlkind"
)

const (
	lookupBudget = 60   // ns to know what a text is that was seen before
	newBudget    = 2000 // ns for each 100 bytes of one that was not
)

// routing measures what pgtide does for a call besides speaking with a server.
// No driver that answers at once can stand below it, since it speaks pgx.
func routing(ctx context.Context, r *report, s servers) error {
	for _, size := range []int{50, 500, 5_000, 50_000} {
		if err := texts(r, size); err != nil {
			return err
		}
	}
	return wholeCall(ctx, r, s)
}

// texts measures what it takes to know a text of size bytes.
func texts(r *report, size int) error {
	var cache sqlkind.Cache
	sql := text(size)
	if kind := cache.Classify(sql).Kind; kind != sqlkind.Read {
		return fmt.Errorf("a text of %d bytes is taken for %v", len(sql), kind)
	}
	again := strings.Clone(sql)
	known := clocked(func() { cache.Classify(sql) })
	equal := clocked(func() { cache.Classify(again) })
	unseen := clocked(func() { sqlkind.Classify(sql) })
	name := fmt.Sprintf("routing: a text of %d bytes, ", len(sql))
	r.add(result{Name: name + "known", Ours: known.ns, Unit: "ns", Budget: lookupBudget})
	r.add(result{Name: name + "known", Ours: known.allocs, Unit: "allocs", Budget: 0})
	r.add(result{Name: name + "known, built anew", Ours: equal.ns, Unit: "ns", Shown: true})
	r.add(result{Name: name + "new, each 100 bytes", Ours: unseen.ns * 100 / float64(len(sql)), Unit: "ns", Budget: newBudget})
	r.add(result{Name: name + "new", Ours: unseen.allocs, Unit: "allocs", Shown: true})
	return nil
}

// text returns a plain query of size bytes.
func text(size int) string {
	var b strings.Builder
	b.WriteString("select v from bench b where b.id = $1")
	for i := 2; b.Len() < size-40; i++ {
		fmt.Fprintf(&b, " and b.column_%d <> lower($%d)", i, i)
	}
	b.WriteString(strings.Repeat(" ", max(0, size-b.Len())))
	return b.String()
}

// wholeCall measures a call under database/sql from its statement to its end,
// with a connection that is at hand and a server that takes no time.
func wholeCall(ctx context.Context, r *report, s servers) error {
	db, err := s.pgtide(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := pgx.Connect(ctx, s.replica)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	pool := front.Of(db)
	take := func(context.Context, *pgxpool.Pool) (front.Connection, error) { return idle{conn}, nil }
	var failed error
	call := clocked(func() {
		c := pool.Statement(ctx, selectOne, false, take)
		_, err := c.Acquire(ctx)
		again, err2 := c.Done(nil)
		if err != nil || err2 != nil || again {
			failed = errors.Join(err, err2, errors.New("a call without a server did not end"))
		}
	})
	if failed != nil {
		return failed
	}
	r.add(result{Name: "routing: a whole call", Ours: call.ns, Unit: "ns", Shown: true})
	r.add(result{Name: "routing: a whole call", Ours: call.allocs, Unit: "allocs", Shown: true})
	return nil
}

// idle is a connection that is at hand.
type idle struct{ conn *pgx.Conn }

func (c idle) Conn() *pgx.Conn { return c.conn }
func (c idle) Release()        {}

// cost is what one call of something takes.
type cost struct{ ns, allocs float64 }

// clocked measures f: the time is the median of short runs, so that what else
// the machine does meanwhile hardly counts.
func clocked(f func()) cost {
	const runs, run = 41, 2 * time.Millisecond
	f()
	n := 1
	for took := time.Duration(0); took < run; n *= 2 {
		took = clock(f, n)
	}
	n = max(1, n/2)
	var ns []float64
	for range runs {
		ns = append(ns, float64(clock(f, n).Nanoseconds())/float64(n))
	}
	return cost{median(ns), allocations(f)}
}

func clock(f func(), n int) time.Duration {
	began := time.Now()
	for range n {
		f()
	}
	return time.Since(began)
}

// allocations counts those of one call. Others allocate too while it is counted,
// such as pgtide's watcher: the least of a few counts is f's own.
func allocations(f func()) float64 {
	var n []float64
	for range 5 {
		n = append(n, testing.AllocsPerRun(50, f))
	}
	return slices.Min(n)
}
