package stamp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/lab"
)

// TestOnPostgreSQL stamps what pgx does on a real server.
func TestOnPostgreSQL(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &server{primary: cluster.Primary().DSN(), replica: cluster.Replicas()[0].DSN()}
	side := s.connect(ctx, t, 0, nil)
	if _, err := side.Exec(ctx, "create table t (id bigint primary key, text text)"); err != nil {
		t.Fatal(err)
	}
	s.side = side.Conn

	t.Run("Operations", func(t *testing.T) { s.testOperations(ctx, t) })
	t.Run("Modes", func(t *testing.T) { s.testModes(ctx, t) })
	t.Run("Outside a transaction block", func(t *testing.T) { s.testOutsideBlock(ctx, t) })
	t.Run("Messages in between", func(t *testing.T) { s.testMessages(ctx, t) })
	t.Run("Transactions", func(t *testing.T) { s.testTransactions(ctx, t) })
	t.Run("Broken", func(t *testing.T) { s.testBroken(ctx, t) })
	t.Run("Tracers", func(t *testing.T) { s.testTracers(ctx, t) })
	t.Run("Concurrent", func(t *testing.T) { s.testConcurrent(ctx, t) })
	t.Run("Guards", func(t *testing.T) { s.testGuards(ctx, t) })
	t.Run("Visible", func(t *testing.T) { s.testVisible(ctx, t) })
}

// server is the cluster of the tests and a plain connection to its primary.
type server struct {
	primary, replica string
	side             *pgx.Conn
	mu               sync.Mutex // guards ids
	ids              int64
}

// stamped is a pgx connection and what stamps it.
type stamped struct {
	*pgx.Conn
	stamp *Conn
}

// connect opens a connection whose reads bring at most max bytes; zero sets no
// limit.
func (s *server) connect(ctx context.Context, t *testing.T, max int, change func(*pgx.ConnConfig)) *stamped {
	t.Helper()
	config, err := pgx.ParseConfig(s.primary)
	if err != nil {
		t.Fatal(err)
	}
	c := &stamped{}
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if max > 0 {
			conn = &choppy{conn, rand.New(rand.NewPCG(1, uint64(max))), max}
		}
		return conn, nil
	}
	if change != nil {
		change(config)
	}
	Install(&config.Config)
	if c.Conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		t.Fatal(err)
	}
	if c.stamp = From(c.PgConn()); c.stamp == nil {
		t.Fatal("the connection has no Conn")
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
	return c
}

// id returns a number that no row has yet.
func (s *server) id() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids++
	return s.ids
}

// position asks the primary where it is.
func (s *server) position(ctx context.Context, t *testing.T) topology.LSN {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var text string
	if err := s.side.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		t.Fatal(err)
	}
	return lsn(t, text)
}

func lsn(t *testing.T, text string) topology.LSN {
	t.Helper()
	l, err := topology.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// taken returns the stamp of what c was armed for.
func (c *stamped) taken(t *testing.T) topology.LSN {
	t.Helper()
	text, ok := c.stamp.Take()
	if !ok {
		t.Fatal("no stamp")
	}
	return lsn(t, text)
}

// operation is something that writes the row id.
type operation struct {
	what string
	mode Mode
	do   func(ctx context.Context, c *stamped, id int64) error
}

var operations = []operation{
	{"exec with arguments", Query, func(ctx context.Context, c *stamped, id int64) error {
		_, err := c.Exec(ctx, "insert into t values ($1, 'one')", id)
		return err
	}},
	{"exec without arguments", Query, func(ctx context.Context, c *stamped, id int64) error {
		_, err := c.Exec(ctx, fmt.Sprintf("insert into t values (%d, 'two')", id))
		return err
	}},
	{"several statements in one", Query, func(ctx context.Context, c *stamped, id int64) error {
		_, err := c.Exec(ctx, fmt.Sprintf("select 1; insert into t values (%d, 'two'); select 2", id))
		return err
	}},
	{"returning", Query, func(ctx context.Context, c *stamped, id int64) error {
		var got int64
		err := c.QueryRow(ctx, "insert into t values ($1, 'three') returning id", id).Scan(&got)
		if err == nil && got != id {
			err = fmt.Errorf("id %d is returned, want %d", got, id)
		}
		return err
	}},
	{"a large result", Query, func(ctx context.Context, c *stamped, id int64) error {
		rows, err := c.Query(ctx, `with i as (insert into t values ($1, 'four') returning id)
			select repeat('x', 1000) from i, generate_series(1, 300)`, id)
		if err != nil {
			return err
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err == nil && (len(texts) != 300 || len(texts[299]) != 1000) {
			err = fmt.Errorf("%d rows, want 300 of 1000 bytes", len(texts))
		}
		return err
	}},
	{"batch", Query, func(ctx context.Context, c *stamped, id int64) error {
		b := &pgx.Batch{}
		b.Queue("insert into t values ($1, 'five')", -id)
		b.Queue("insert into t values ($1, 'six') returning id", id)
		b.Queue("select 1")
		r := c.SendBatch(ctx, b)
		if _, err := r.Exec(); err != nil {
			return errors.Join(err, r.Close())
		}
		var got int64
		if err := r.QueryRow().Scan(&got); err != nil {
			return errors.Join(err, r.Close())
		}
		return r.Close()
	}},
	{"copy", Copy, func(ctx context.Context, c *stamped, id int64) error {
		n, err := c.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id", "text"}, pgx.CopyFromSlice(100, func(i int) ([]any, error) {
			if i == 0 {
				return []any{id, "seven"}, nil
			}
			return []any{-1000*id - int64(i), strings.Repeat("y", 1000)}, nil
		}))
		if err == nil && n != 100 {
			err = fmt.Errorf("%d rows are copied, want 100", n)
		}
		return err
	}},
}

// run makes one stamped operation and checks that its stamp lies between the
// positions before and after it, and that its row is there.
func (s *server) run(ctx context.Context, t *testing.T, c *stamped, o operation) {
	t.Helper()
	id := s.id()
	before := s.position(ctx, t)
	c.stamp.Arm(o.mode)
	if err := o.do(ctx, c, id); err != nil {
		t.Fatal(err)
	}
	got := c.taken(t)
	after := s.position(ctx, t)
	if got <= before || got > after {
		t.Errorf("stamp %v, want it past %v and not past %v", got, before, after)
	}
	var found bool
	if err := c.QueryRow(ctx, "select exists (select from t where id = $1)", id).Scan(&found); err != nil || !found {
		t.Errorf("the row is there: %v, %v", found, err)
	}
	if status := c.PgConn().TxStatus(); status != 'I' {
		t.Errorf("the connection is left in status %c", status)
	}
}

func (s *server) testOperations(ctx context.Context, t *testing.T) {
	for _, max := range []int{0, 1, 5, 1000} {
		c := s.connect(ctx, t, max, nil)
		for _, o := range operations {
			if max == 1 && o.what == "a large result" {
				continue // 300,000 reads
			}
			for use := 1; use <= 3; use++ {
				t.Run(fmt.Sprintf("%s/reads of up to %d/use %d", o.what, max, use), func(t *testing.T) { s.run(ctx, t, c, o) })
			}
			t.Run(fmt.Sprintf("%s/reads of up to %d/refused", o.what, max), func(t *testing.T) {
				c.stamp.Arm(o.mode)
				var pg *pgconn.PgError
				if err := o.do(ctx, c, s.ids); !errors.As(err, &pg) || pg.Code != "23505" {
					t.Errorf("the row a second time: %v, want a unique violation", err)
				}
				c.stamp.Take()
			})
		}
	}
}

// All of pgx's ways to run a statement.
func (s *server) testModes(ctx context.Context, t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		c := s.connect(ctx, t, 7, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		for _, o := range operations {
			if o.mode == Copy && mode == pgx.QueryExecModeSimpleProtocol {
				continue // pgx has no column types then
			}
			if o.what == "batch" && mode == pgx.QueryExecModeExec {
				// pgx writes such a batch past the frontend: it goes unstamped.
				t.Run(fmt.Sprintf("%v/%s", mode, o.what), func(t *testing.T) {
					c.stamp.Arm(o.mode)
					if err := o.do(ctx, c, s.id()); err != nil {
						t.Fatal(err)
					}
					if lsn, ok := c.stamp.Take(); ok {
						t.Errorf("stamp %s of a request that was not seen", lsn)
					}
				})
				continue
			}
			for use := 1; use <= 2; use++ {
				t.Run(fmt.Sprintf("%v/%s/use %d", mode, o.what, use), func(t *testing.T) { s.run(ctx, t, c, o) })
			}
		}
	}
}

// Statements that refuse to run in a transaction block, which the question
// must not make for them, and those that end in an error only when they commit.
func (s *server) testOutsideBlock(ctx context.Context, t *testing.T) {
	c := s.connect(ctx, t, 0, nil)
	for _, sql := range []string{
		"vacuum t",
		"create index concurrently t_text on t (text)",
		"drop index concurrently t_text",
		"create procedure p() language plpgsql as $$ begin insert into t values (-1, 'p'); commit; rollback; end $$",
		"call p()",
		"",
	} {
		c.stamp.Arm(Query)
		rows, err := c.Query(ctx, sql) // by the extended protocol, even without arguments
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		c.taken(t)
	}

	if _, err := c.Exec(ctx, "create table d (id int unique deferrable initially deferred)"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c.stamp.Arm(Query)
		_, err := c.Exec(ctx, "insert into d values ($1), ($1)", 1)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "23505" {
			t.Errorf("a deferred constraint: %v, want a unique violation", err)
		}
		if _, ok := c.stamp.Take(); ok {
			t.Error("what did not commit has a stamp")
		}
		if status := c.PgConn().TxStatus(); status != 'I' {
			t.Errorf("the connection is left in status %c", status)
		}
	}
	var rows int
	if err := c.QueryRow(ctx, "select count(*) from d").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows, %v, want none", rows, err)
	}
}

// Notices, notifications and parameters come with the answers and reach pgx.
func (s *server) testMessages(ctx context.Context, t *testing.T) {
	var notices, warnings int
	c := s.connect(ctx, t, 3, func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			notices++
			if n.Severity == "WARNING" {
				warnings++
				t.Errorf("the server warns: %s", n.Message)
			}
		}
	})
	if _, err := c.Exec(ctx, "listen news"); err != nil {
		t.Fatal(err)
	}
	for i, sql := range []string{
		"do $$ begin raise notice 'by the way'; perform set_config('application_name', 'x', false); notify news, 'hello'; end $$",
		"do $$ begin raise notice 'again'; perform set_config('application_name', 'y', false); notify news, 'hello'; end $$",
	} {
		c.stamp.Arm(Query)
		var err error
		if i == 0 {
			_, err = c.Exec(ctx, sql)
		} else {
			var rows pgx.Rows
			rows, err = c.Query(ctx, sql)
			rows.Close()
			err = errors.Join(err, rows.Err())
		}
		if err != nil {
			t.Fatal(err)
		}
		c.taken(t)
		if notices != i+1 {
			t.Errorf("%d notices have come, want %d", notices, i+1)
		}
		if got, want := c.PgConn().ParameterStatus("application_name"), string("xy"[i]); got != want {
			t.Errorf("application_name is %q, want %q", got, want)
		}
		n, err := c.WaitForNotification(ctx)
		if err != nil || n.Payload != "hello" {
			t.Errorf("notification %v, %v, want hello", n, err)
		}
	}
}

func (s *server) testTransactions(ctx context.Context, t *testing.T) {
	c := s.connect(ctx, t, 3, nil)
	for _, o := range operations {
		t.Run(o.what, func(t *testing.T) {
			tx, err := c.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			id := s.id()
			if err := o.do(ctx, c, id); err != nil {
				t.Fatal(err)
			}
			before := s.position(ctx, t)
			c.stamp.Arm(Query)
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			got := c.taken(t)
			if after := s.position(ctx, t); got <= before || got > after {
				t.Errorf("stamp %v, want it past %v and not past %v", got, before, after)
			}
		})
	}
	tx, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select 1/0"); err == nil {
		t.Fatal("no error")
	}
	c.stamp.Arm(Query)
	if err := tx.Commit(ctx); !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("commit of a failed transaction: %v, want %v", err, pgx.ErrTxCommitRollback)
	}
	c.stamp.Take()
}

// tracer counts what pgx tells of queries.
type tracer struct {
	begun, ended int
	tag          string
}

func (x *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	x.begun++
	return ctx
}

func (x *tracer) TraceQueryEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	x.ended++
	x.tag = d.CommandTag.String()
}

// Tracers are told of the application's statements and of no others.
func (s *server) testTracers(ctx context.Context, t *testing.T) {
	x := &tracer{}
	c := s.connect(ctx, t, 0, func(config *pgx.ConnConfig) { config.Tracer = x })
	c.stamp.Arm(Query)
	if _, err := c.Exec(ctx, "insert into t values ($1, 'traced')", s.id()); err != nil {
		t.Fatal(err)
	}
	c.taken(t)
	if x.begun != 1 || x.ended != 1 || x.tag != "INSERT 0 1" {
		t.Errorf("%d queries have begun and %d ended, the last with %q, want one with INSERT 0 1", x.begun, x.ended, x.tag)
	}
}

// Many connections, and batches so large that pgx reads while it writes.
func (s *server) testConcurrent(ctx context.Context, t *testing.T) {
	large := strings.Repeat("z", 1000)
	var done sync.WaitGroup
	for range 4 {
		c := s.connect(ctx, t, 0, nil)
		done.Go(func() {
			for range 5 {
				b := &pgx.Batch{}
				for range 1000 {
					b.Queue("insert into t values ($1, $2) returning text", s.id(), large)
				}
				c.stamp.Arm(Query)
				if err := c.SendBatch(ctx, b).Close(); err != nil {
					t.Error(err)
					return
				}
				if _, ok := c.stamp.Take(); !ok {
					t.Error("no stamp")
				}
			}
		})
	}
	done.Wait()
}
