package pgtide_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// sqlcDBTX is the interface that sqlc generates for pgx.
type sqlcDBTX interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	Query(context.Context, string, ...any) (pgx.Rows, error)
	QueryRow(context.Context, string, ...any) pgx.Row
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}

var (
	_ sqlcDBTX = (*pgtide.DB)(nil)
	_ sqlcDBTX = (*pgtide.Conn)(nil)
)

// insert writes a message and returns its id.
func insert(t *testing.T, ctx context.Context, db sqlcDBTX, text string) (id int64) {
	t.Helper()
	if err := db.QueryRow(ctx, "insert into message (text) values ($1) returning id", text).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// read returns the message with this id, and fails the test if it is missing.
func read(t *testing.T, ctx context.Context, db sqlcDBTX, id int64) (text string) {
	t.Helper()
	if err := db.QueryRow(ctx, "select text from message where id = $1", id).Scan(&text); err != nil {
		t.Fatalf("read message %d: %v; decisions: %v", id, err, pgtide.Explain(ctx))
	}
	return text
}

func TestSessionReadsItsWritesFromReplicas(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	replicas := 0
	for range 50 {
		ctx := pgtide.NewSession(t.Context())
		id := insert(t, ctx, db, "hi")
		read(t, ctx, db, id)
		if last(t, ctx).Role == pgtide.RoleReplica {
			replicas++
		}
	}
	if replicas < 45 {
		t.Errorf("replicas served %d of 50 reads after a write, want nearly all: they are milliseconds behind", replicas)
	}
}

func TestEveryWayToWriteIsSeen(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	pause(t, c) // now any read that a replica serves misses the row

	ways := map[string]func(ctx context.Context, text string) error{
		"Exec": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values ($1)", text)
			return err
		},
		"Exec simple protocol": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values ('"+text+"')")
			return err
		},
		"Query returning": func(ctx context.Context, text string) error {
			rows, err := db.Query(ctx, "insert into message (text) values ($1) returning id", text)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		},
		"with insert": func(ctx context.Context, text string) error {
			var id int64
			return db.QueryRow(ctx, "with w as (insert into message (text) values ($1) returning id) select id from w", text).Scan(&id)
		},
		"function": func(ctx context.Context, text string) error {
			var id int64
			return db.QueryRow(ctx, "select write_message($1)", text).Scan(&id)
		},
		"function on the primary": func(ctx context.Context, text string) error {
			var id int64
			return db.QueryRow(pgtide.OnPrimary(ctx), "select write_message($1)", text).Scan(&id)
		},
		"function in a batch on the primary": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("select write_message($1)", text)
			return db.SendBatch(pgtide.WithConsistency(ctx, pgtide.Strong), b).Close()
		},
		"batch": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			b.Queue("insert into message (text) values ($1)", text)
			return db.SendBatch(ctx, b).Close()
		},
		"copy": func(ctx context.Context, text string) error {
			_, err := db.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows([][]any{{text}}))
			return err
		},
		"transaction": func(ctx context.Context, text string) error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into message (text) values ($1)", text)
				return err
			})
		},
		"batch that begins a transaction": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.BeginTx(pgx.TxOptions{})
			b.Queue("insert into message (text) values ($1)", text)
			r := db.SendBatch(ctx, b)
			if err := r.Close(); err != nil {
				return err
			}
			return r.Tx().Commit(ctx)
		},
		"transaction with its own BEGIN": func(ctx context.Context, text string) error {
			o := pgx.TxOptions{AccessMode: pgx.ReadOnly, BeginQuery: "begin"} // pgx sends BeginQuery alone
			return pgx.BeginTxFunc(ctx, db, o, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into message (text) values ($1)", text)
				return err
			})
		},
		"acquired connection": func(ctx context.Context, text string) error {
			conn, err := db.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			_, err = conn.Exec(ctx, "insert into message (text) values ($1)", text)
			return err
		},
		"transaction on an acquired connection": func(ctx context.Context, text string) error {
			conn, err := db.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into message (text) values ($1)", text)
				return err
			})
		},
	}
	contexts := map[string]func() context.Context{
		"in a session":      func() context.Context { return pgtide.NewSession(t.Context()) },
		"outside a session": t.Context,
		"Session level":     func() context.Context { return pgtide.WithConsistency(pgtide.NewSession(t.Context()), pgtide.Session) },
	}
	for way, write := range ways {
		for where, newContext := range contexts {
			name := way + " " + where
			ctx := newContext()
			if err := write(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var n int
			if err := db.QueryRow(ctx, "select count(*) from message where text = $1", name).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s: the read after the write found %d rows, want 1 (%v); decisions: %v", name, n, err, pgtide.Explain(ctx))
			}
		}
	}
}

// pause stops replay on all replicas of c.
func pause(t *testing.T, c *lab.Cluster) {
	t.Helper()
	for _, n := range c.Replicas() {
		if err := n.PauseReplay(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDelayedReplicaIsNotRead(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	slow, fast := c.Replicas()[0], c.Replicas()[1]
	if err := slow.SetApplyDelay(t.Context(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	served := map[string]int{}
	for range 30 {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "hi"))
		served[last(t, ctx).Node]++
	}
	if served[slow.Name()] > 0 || served[fast.Name()] < 25 {
		t.Errorf("reads were served by %v, want nearly all by %s and none by %s", served, fast.Name(), slow.Name())
	}
}

func TestReadsOutsideASessionUseReplicasOnceTheyCaughtUp(t *testing.T) {
	t.Parallel()
	db := open(t, start(t, lab.Options{Replicas: 1}), pgtide.Options{})
	insert(t, t.Context(), db, "hi")
	until(t, "a read without a session on a replica", func() bool {
		if _, err := db.Exec(t.Context(), "select 1"); err != nil {
			t.Fatal(err)
		}
		return db.Stat().Decisions[pgtide.ReasonFresh] > 0
	})
}

func TestTokenCarriesASessionElsewhere(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	writer, reader := open(t, c, pgtide.Options{}), open(t, c, pgtide.Options{})
	pause(t, c)

	ctx := pgtide.NewSession(t.Context())
	if _, ok := pgtide.TokenFrom(ctx); ok {
		t.Error("a session that has done nothing has a token")
	}
	id := insert(t, ctx, writer, "hi")
	token, ok := pgtide.TokenFrom(ctx)
	if !ok || token.SystemID() != writer.SystemID() || token.Timeline() != 1 {
		t.Fatalf("TokenFrom after a write = %v, %v", token, ok)
	}
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back pgtide.Token
	if err := back.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}

	other := pgtide.WithToken(t.Context(), back)
	read(t, other, reader, id)
	if d := last(t, other); d.Reason != pgtide.ReasonLagging {
		t.Errorf("read with a token on a paused replica: %v, want reason %s", d, pgtide.ReasonLagging)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := reader.WaitFor(short, back); !errors.Is(err, pgtide.ErrNoFreshReplica) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitFor a paused replica: %v, want ErrNoFreshReplica at the deadline", err)
	}
	if err := c.Replicas()[0].ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := reader.WaitFor(short, pgtide.Token{}); err != nil {
		t.Errorf("WaitFor with the zero token: %v, want no wait", err)
	}
	if err := reader.WaitFor(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	read(t, other, reader, id)
	if d := last(t, other); d.Role != pgtide.RoleReplica {
		t.Errorf("read after WaitFor: %v, want a replica", d)
	}
}

func TestUnplacedTokenIsHonoured(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	writer, reader := open(t, c, pgtide.Options{ProbeInterval: time.Hour, ProbeTimeout: 10 * time.Second}), open(t, c, pgtide.Options{})
	pause(t, c)
	// What is done through Acquire is not stamped, and with an hour between
	// probes it is not sampled either: its position is not known.
	ctx := pgtide.NewSession(t.Context())
	conn, err := writer.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := insert(t, ctx, conn, "hi")
	conn.Release()
	token, _ := pgtide.TokenFrom(ctx)
	read(t, pgtide.WithToken(t.Context(), token), reader, id)
}

func TestTargets(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	primary, replica := shared.Primary().Name(), shared.Replicas()[0].Name()
	session := pgtide.NewSession(t.Context())
	for _, test := range []struct {
		name   string
		ctx    context.Context
		sql    string
		role   pgtide.Role
		node   string
		reason pgtide.Reason
	}{
		{"read", session, "select 1", pgtide.RoleReplica, "", ""},
		{"read on primary", pgtide.OnPrimary(session), "select 1", pgtide.RolePrimary, primary, pgtide.ReasonForced},
		{"strong read", pgtide.WithConsistency(session, pgtide.Strong), "select 1", pgtide.RolePrimary, primary, pgtide.ReasonStrong},
		{"eventual read", pgtide.WithConsistency(session, pgtide.Eventual), "select 1", pgtide.RoleReplica, "", ""},
		{"named", pgtide.OnNode(session, replica), "select 1", pgtide.RoleReplica, replica, pgtide.ReasonNamed},
		{"innermost wins", pgtide.OnReplica(pgtide.OnPrimary(session)), "select 1", pgtide.RoleReplica, "", ""},
		{"anywhere again", pgtide.Anywhere(pgtide.OnPrimary(session)), "select 1", pgtide.RoleReplica, "", ""},
		{"advisory lock", session, "select pg_advisory_xact_lock(1)", pgtide.RolePrimary, primary, pgtide.ReasonSessionBound},
		{"set", session, "set application_name = 'x'", pgtide.RolePrimary, primary, pgtide.ReasonSessionBound},
		{"for update", session, "select * from message for update skip locked limit 1", pgtide.RolePrimary, primary, pgtide.ReasonWrite},
		{"write on replica", pgtide.OnReplica(session), "insert into message (text) values ('x')", pgtide.RolePrimary, primary, pgtide.ReasonWrite},
		{"node that writes, on replica", pgtide.OnReplica(session), "select write_message('x')", pgtide.RolePrimary, primary, pgtide.ReasonRefused},
	} {
		if _, err := db.Exec(test.ctx, test.sql); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		d := last(t, session)
		if d.Role != test.role || test.node != "" && d.Node != test.node || test.reason != "" && d.Reason != test.reason {
			t.Errorf("%s: %v, want %s %s %s", test.name, d, test.role, test.node, test.reason)
		}
	}
	_, err := db.Exec(pgtide.OnNode(t.Context(), "nowhere"), "select 1")
	if !errors.Is(err, pgtide.ErrUnknownNode) {
		t.Errorf("unknown node: %v, want ErrUnknownNode", err)
	}
	var pg *pgconn.PgError
	_, err = db.Exec(pgtide.OnNode(t.Context(), replica), "insert into message (text) values ('x')")
	if !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("write on a named replica: %v, want the server's own 25006", err)
	}
}

func TestCommitWithSynchronousCommitOff(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	o := pgtide.Options{}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN() + "&synchronous_commit=off"})
	}
	db := open(t, c, o)
	// The written position lags the insert position here: a token made of the
	// former is older than the write.
	for range 60 {
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "hi"))
	}
}

func TestBoundedStaleness(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	ctx := pgtide.NewSession(pgtide.WithConsistency(t.Context(), pgtide.BoundedStaleness(time.Second)))
	if _, err := db.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica {
		t.Errorf("idle replica: %v, want it to serve: it lacks nothing", d)
	}
	if err := c.Replicas()[0].Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, t.Context(), db, "what the replica does not get")
	// The receive position equals the replay position with the link cut, which
	// a common formula takes for no lag at all.
	until(t, "reads to avoid the replica that is cut off", func() bool {
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		return last(t, ctx).Reason == pgtide.ReasonTooStale
	})
}

func TestSessionLevelNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	slow, fast := c.Replicas()[0], c.Replicas()[1]
	if err := slow.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := insert(t, pgtide.NewSession(t.Context()), db, "written by somebody else")
	if err := db.WaitFor(t.Context(), mustToken(t, db), fast.Name()); err != nil {
		t.Fatal(err)
	}
	ctx := pgtide.NewSession(pgtide.WithConsistency(t.Context(), pgtide.Session))
	// The session reads the row on the fast replica, which then dies. It has
	// written nothing, so nothing but its read forbids the slow one.
	read(t, pgtide.OnNode(ctx, fast.Name()), db, id)
	if err := fast.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		read(t, ctx, db, id)
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("reads went on at %v, want the primary", d)
	}
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		t.Fatal("reads at level Session did not raise the token")
	}
	read(t, pgtide.WithToken(t.Context(), token), open(t, c, pgtide.Options{}), id)
}

func TestSessionLevelCountsReadsAtThePrimary(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{})
	pause(t, c)
	for name, readPrimary := range map[string]func(ctx context.Context, id int64){
		"statement": func(ctx context.Context, id int64) { read(t, pgtide.OnPrimary(ctx), db, id) },
		"transaction rolled back": func(ctx context.Context, id int64) {
			tx, err := db.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var text string
			if err := errors.Join(tx.QueryRow(ctx, "select text from message where id = $1", id).Scan(&text), tx.Rollback(ctx)); err != nil {
				t.Fatal(err)
			}
		},
		"read-only transaction": func(ctx context.Context, id int64) {
			err := pgx.BeginTxFunc(pgtide.OnPrimary(ctx), db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				var text string
				return tx.QueryRow(ctx, "select text from message where id = $1", id).Scan(&text)
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Log(name)
		id := insert(t, pgtide.NewSession(t.Context()), db, "written by somebody else")
		ctx := pgtide.NewSession(pgtide.WithConsistency(t.Context(), pgtide.Session))
		readPrimary(ctx, id)
		read(t, ctx, db, id)
	}
}

func TestSessionLevelCountsRowsStillBeingRead(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	db := open(t, c, pgtide.Options{})
	slow, fast := c.Replicas()[0], c.Replicas()[1]
	if err := slow.PauseReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := insert(t, pgtide.NewSession(t.Context()), db, "written by somebody else")
	if err := db.WaitFor(t.Context(), mustToken(t, db), fast.Name()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		ctx := pgtide.NewSession(pgtide.WithConsistency(t.Context(), pgtide.Session))
		rows, err := db.Query(pgtide.OnNode(ctx, fast.Name()), "select id from message where id = $1", id)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			read(t, ctx, db, id)
		}
		rows.Close()
	}
}

func mustToken(t *testing.T, db *pgtide.DB) pgtide.Token {
	t.Helper()
	token, err := db.CurrentToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}
