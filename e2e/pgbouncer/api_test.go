package pgbouncer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidesql"
)

// write is a way to write a message.
type write struct {
	what string
	// stamped says that its position is asked for: without it a sample of the
	// primary has to cover the write.
	stamped bool
	do      func(ctx context.Context, db *pgtide.DB, std *sql.DB, text string) error
}

var writes = []write{
	{"Exec with arguments", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		_, err := db.Exec(ctx, "insert into message (text) values ($1)", text)
		return err
	}},
	{"Exec without arguments", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		_, err := db.Exec(ctx, "insert into message (text) values ('"+text+"')")
		return err
	}},
	{"QueryRow", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		var id int64
		return db.QueryRow(ctx, "insert into message (text) values ($1) returning id", text).Scan(&id)
	}},
	{"QueryRow of a function", false, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		var id int64
		return db.QueryRow(ctx, "select write_message($1)", text).Scan(&id)
	}},
	{"Query", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		rows, err := db.Query(ctx, "insert into message (text) values ($1) returning id", text)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	}},
	{"SendBatch", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		b := &pgx.Batch{}
		b.Queue("select 1")
		b.Queue("insert into message (text) values ($1)", text)
		return db.SendBatch(ctx, b).Close()
	}},
	{"CopyFrom", false, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		n, err := db.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows([][]any{{text}}))
		if err == nil && n != 1 {
			err = fmt.Errorf("%d rows", n)
		}
		return err
	}},
	{"Begin", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		tx, err := db.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Exec(ctx, "insert into message (text) values ($1)", text); err != nil {
			return err
		}
		var found bool
		if err := tx.QueryRow(ctx, "select exists (select from message where text = $1)", text).Scan(&found); err != nil || !found {
			return fmt.Errorf("the transaction sees its own message: %v, %w", found, err)
		}
		return tx.Commit(ctx)
	}},
	{"RetryTx", true, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		return db.RetryTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}, pgtide.Retry{}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into message (text) values ($1)", text)
			return err
		})
	}},
	{"AcquireFunc", false, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		return db.AcquireFunc(ctx, func(c *pgtide.Conn) error {
			_, err := c.Exec(ctx, "insert into message (text) values ($1)", text)
			return err
		})
	}},
	{"PrimaryPool", false, func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) error {
		pool, err := db.PrimaryPool()
		if err != nil {
			return err
		}
		_, err = pool.Exec(ctx, "insert into message (text) values ($1)", text)
		return err
	}},
	{"sql.DB", true, func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) error {
		_, err := std.ExecContext(ctx, "insert into message (text) values ($1)", text)
		return err
	}},
	{"sql.Stmt", true, func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) error {
		stmt, err := std.PrepareContext(ctx, "insert into message (text) values ($1)")
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx, text)
		return errors.Join(err, stmt.Close())
	}},
	{"sql.Tx", true, func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) error {
		tx, err := std.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		stmt, err := tx.PrepareContext(ctx, "insert into message (text) values ($1)")
		if err != nil {
			return err
		}
		if _, err := stmt.ExecContext(ctx, text); err != nil {
			return err
		}
		return tx.Commit()
	}},
}

// read is a way to ask for a message.
type read struct {
	what string
	do   func(ctx context.Context, db *pgtide.DB, std *sql.DB, text string) (found bool, err error)
}

const exists = "select exists (select from message where text = $1)"

var reads = []read{
	{"QueryRow", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (found bool, err error) {
		return found, db.QueryRow(ctx, exists, text).Scan(&found)
	}},
	{"Query without arguments", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (bool, error) {
		rows, err := db.Query(ctx, "select text from message")
		if err != nil {
			return false, err
		}
		return contains(rows, text)
	}},
	{"Query in the simple protocol", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (bool, error) {
		rows, err := db.Query(ctx, "select text from message where text = $1", pgx.QueryExecModeSimpleProtocol, text)
		if err != nil {
			return false, err
		}
		return contains(rows, text)
	}},
	{"Exec without arguments", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (bool, error) {
		tag, err := db.Exec(ctx, "select 1 from message where text = '"+text+"'")
		return tag.RowsAffected() > 0, err
	}},
	{"SendBatch", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (found bool, err error) {
		b := &pgx.Batch{}
		b.Queue(exists, text)
		b.Queue("select 1")
		r := db.SendBatch(ctx, b)
		return found, errors.Join(r.QueryRow().Scan(&found), r.Close())
	}},
	{"BeginTx", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (found bool, err error) {
		return found, pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, exists, text).Scan(&found)
		})
	}},
	{"Begin at a replica", func(ctx context.Context, db *pgtide.DB, _ *sql.DB, text string) (found bool, err error) {
		return found, pgx.BeginFunc(pgtide.OnReplica(ctx), db, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, exists, text).Scan(&found)
		})
	}},
	{"sql.DB", func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) (found bool, err error) {
		return found, std.QueryRowContext(ctx, exists, text).Scan(&found)
	}},
	{"sql.Stmt", func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) (found bool, err error) {
		stmt, err := std.PrepareContext(ctx, exists)
		if err != nil {
			return false, err
		}
		return found, errors.Join(stmt.QueryRowContext(ctx, text).Scan(&found), stmt.Close())
	}},
	{"sql.Tx", func(ctx context.Context, _ *pgtide.DB, std *sql.DB, text string) (found bool, err error) {
		tx, err := std.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return false, err
		}
		defer tx.Rollback()
		return found, errors.Join(tx.QueryRowContext(ctx, exists, text).Scan(&found), tx.Commit())
	}},
}

func contains(rows pgx.Rows, text string) (bool, error) {
	found := false
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, t := range texts {
		found = found || t == text
	}
	return found, err
}

// open2 opens a DB and a *sql.DB on it.
func (s *stand) open2(t *testing.T, o pgtide.Options) (*pgtide.DB, *sql.DB) {
	t.Helper()
	db := s.open(t, o)
	std := pgtidesql.Open(db)
	t.Cleanup(func() {
		if err := std.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, std
}

// Replicas that have stopped replaying show nothing of what is written. So
// whatever is written by whichever call has to send its session's reads
// elsewhere, also in another process, and every call can be made although the
// server connection under it is another one each time.
func TestSessionsSeeTheirWrites(t *testing.T) {
	s := start(t, nil)
	db, std := s.open2(t, patient())
	other, otherStd := s.open2(t, patient())
	s.pause(t)
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for worker := range 6 { // more than a pooler has connections
		all.Go(func() {
			for i, w := range writes {
				text := fmt.Sprintf("%s of worker %d", w.what, worker)
				ctx := pgtide.NewSession(bounded)
				if err := w.do(ctx, db, std, text); err != nil {
					t.Errorf("%s: %v", w.what, err)
					continue
				}
				r := reads[(i+worker)%len(reads)]
				if found, err := r.do(ctx, db, std, text); err != nil || !found {
					t.Errorf("%s, then %s: found %v, %v", w.what, r.what, found, err)
				}
				if d := last(t, ctx); w.stamped && d.Reason == pgtide.ReasonUnsampled {
					t.Errorf("%s, then %s: %v, want its position to be known", w.what, r.what, d)
				}
				token, ok := pgtide.TokenFrom(ctx)
				if !ok {
					t.Errorf("%s: the session has no token", w.what)
				}
				elsewhere := pgtide.WithToken(bounded, token)
				if found, err := r.do(elsewhere, other, otherStd, text); err != nil || !found {
					t.Errorf("%s, then %s in another process: found %v, %v", w.what, r.what, found, err)
				}
				for _, replica := range s.Replicas() {
					if n := count(t, replica, text); n != 0 {
						t.Errorf("%s shows %d messages of %s: its replay is not paused", replica.Name(), n, w.what)
					}
				}
			}
		})
	}
	all.Wait()
	s.resume(t)
	for _, w := range writes {
		for worker := range 6 {
			text := fmt.Sprintf("%s of worker %d", w.what, worker)
			if n := count(t, s.Primary(), text); n != 1 {
				t.Errorf("%d messages of %s, want 1", n, text)
			}
		}
	}
	for _, r := range reads {
		until(t, r.what+" at a replica", func() bool {
			ctx := pgtide.NewSession(t.Context())
			found, err := r.do(ctx, db, std, writes[0].what+" of worker 0")
			if err != nil || !found {
				t.Fatalf("%s: found %v, %v", r.what, found, err)
			}
			return pgtide.Explain(ctx)[0].Role == pgtide.RoleReplica
		})
	}
	s.checkPooled(t, db)
}

// checkPooled makes sure that db has found the poolers and that nothing was left
// behind them.
func (s *stand) checkPooled(t *testing.T, db *pgtide.DB) {
	t.Helper()
	for _, n := range db.Nodes() {
		if !n.Pooled {
			t.Errorf("node %s does not count as pooled", n.Name)
		}
	}
	for _, b := range s.bouncers {
		conn := connect(t, b.dsn()+"&default_query_exec_mode=exec")
		var names string
		const prepared = "select coalesce(string_agg(name, ', '), '') from pg_prepared_statements"
		if err := conn.QueryRow(t.Context(), prepared).Scan(&names); err != nil || names != "" {
			t.Errorf("server session of %s has prepared statements %s (%v)", b.node.Name(), names, err)
		}
	}
}

// Values keep their types: the way to run statements that suits a pooler asks the
// server for them, as the usual one does.
func TestTypes(t *testing.T) {
	s := start(t, nil)
	db := s.open(t, pgtide.Options{})
	var m map[string]int
	var bytes []byte
	var list []string
	for range 2 {
		err := db.QueryRow(t.Context(), "select $1::jsonb, $2::bytea, $3::text[]", map[string]int{"a": 1}, []byte{0, 1}, []string{"x", "y"}).Scan(&m, &bytes, &list)
		if err != nil || m["a"] != 1 || len(bytes) != 2 || len(list) != 2 {
			t.Errorf("%v, %v, %v, %v", m, bytes, list, err)
		}
	}
}

// A program that has chosen how statements are run has its way, and nobody else
// is asked: without a pooler nothing changes.
func TestModeIsTheCallersChoice(t *testing.T) {
	s := start(t, nil)
	for _, c := range []struct {
		choice string
		want   pgx.QueryExecMode
	}{
		{"", pgx.QueryExecModeCacheDescribe},
		{"&default_query_exec_mode=exec", pgx.QueryExecModeExec},
		{"&default_query_exec_mode=simple_protocol", pgx.QueryExecModeSimpleProtocol},
		{"&default_query_exec_mode=cache_statement", pgx.QueryExecModeCacheStatement},
		{"&default_query_exec_mode=describe_exec", pgx.QueryExecModeCacheDescribe}, // which cannot work
		{"&description_cache_capacity=0", pgx.QueryExecModeCacheDescribe},
	} {
		nodes := s.nodes()
		for i := range nodes {
			nodes[i].DSN += c.choice
		}
		if got := mode(t, s.open(t, pgtide.Options{Nodes: nodes})); got != c.want {
			t.Errorf("DSN with %q: mode %v, want %v", c.choice, got, c.want)
		}
	}
	var direct []pgtide.Node
	for _, n := range s.Nodes() {
		direct = append(direct, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db := s.open(t, pgtide.Options{Nodes: direct})
	if got := mode(t, db); got != pgx.QueryExecModeCacheStatement {
		t.Errorf("without a pooler: mode %v", got)
	}
	for _, n := range db.Nodes() {
		if n.Pooled {
			t.Errorf("node %s counts as pooled", n.Name)
		}
	}
}

// mode returns how db runs statements.
func mode(t *testing.T, db *pgtide.DB) pgx.QueryExecMode {
	t.Helper()
	c, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	return c.Conn().Config().DefaultQueryExecMode
}

// A pool that is asked before any other call was made finds the pooler, too.
func TestPrimaryPoolFirst(t *testing.T) {
	s := start(t, nil)
	db := s.open(t, pgtide.Options{})
	pool, err := db.PrimaryPool()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		var n int
		if err := pool.QueryRow(t.Context(), "select $1::int", i).Scan(&n); err != nil || n != i {
			t.Errorf("query %d: %d, %v", i, n, err)
		}
	}
}

// One pooler may stand in front of all nodes, with a database for each.
func TestOnePoolerForAll(t *testing.T) {
	s := start(t, nil)
	b := startBouncer(t, s.Primary(), nil)
	var lines []string
	var nodes []pgtide.Node
	for i, n := range s.Nodes() {
		lines = append(lines, fmt.Sprintf("node%d = host=127.0.0.1 port=%d dbname=app", i+1, n.Port()))
		nodes = append(nodes, pgtide.Node{Name: n.Name(), DSN: strings.Replace(b.dsn(), "/app?", fmt.Sprintf("/node%d?", i+1), 1)})
	}
	b.databases = strings.Join(lines, "\n")
	b.stop()
	if err := b.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := s.open(t, pgtide.Options{Nodes: nodes})
	for _, n := range db.Nodes() {
		if _, err := db.Exec(pgtide.OnNode(t.Context(), n.Name), "select 1"); err != nil {
			t.Errorf("node %s: %v", n.Name, err)
		}
	}
}

// Two poolers that lead to one server are one node.
func TestOneServerBehindTwoPoolers(t *testing.T) {
	s := start(t, nil)
	nodes := s.nodes()[:1]
	nodes = append(nodes, pgtide.Node{Name: "twin", DSN: startBouncer(t, s.Primary(), nil).dsn()})
	db := s.open(t, pgtide.Options{Nodes: nodes})
	if n := db.Nodes(); n[0].State != "up" || n[1].State != "twin" {
		t.Errorf("nodes %+v, want the second to be called a twin", n)
	}
	if _, err := db.Exec(t.Context(), insert, "one"); err != nil {
		t.Error(err)
	}
}

// PgBouncer refuses parameters that it does not know: that is said at once, and
// what to do.
func TestUnknownParameter(t *testing.T) {
	s := start(t, nil)
	nodes := s.nodes()
	nodes[1].DSN += "&statement_timeout=1000"
	_, err := pgtide.Open(t.Context(), pgtide.Options{Nodes: nodes})
	if err == nil || !strings.Contains(err.Error(), "ignore_startup_parameters") {
		t.Errorf("Open returns %v, want it to name ignore_startup_parameters", err)
	}
}
