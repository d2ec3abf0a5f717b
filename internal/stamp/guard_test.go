package stamp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var question, commitQuestion, inlineQuestion = position.alone, position.commit, position.inline

// guardedConversation is a request with a guard, and what comes of it.
type guardedConversation struct {
	what    string
	request []byte
	sent    []byte // request when the guard has no place in it
	server  []byte
	driver  []byte
	refused bool
	shift   int
}

func guardedConversations() []guardedConversation {
	const text = "select guard"
	g := execute(text)
	parsed := chain(frontend(&pgproto3.Parse{Query: "select 1"}), frontend(&pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}))
	unnamed := frontend(&pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	begun := backend(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")})
	open := backend(&pgproto3.ReadyForQuery{TxStatus: 'T'})
	ok := backend(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, row("0"), &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	fields := backend(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("guard")}}})
	simpleOK := chain(fields, backend(row("0"), &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}))
	bad := backend(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "22P02", Message: "another server"})
	result := backend(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id")}}}, row("42"), inserted)
	many := bytes.Repeat(backend(row(string(bytes.Repeat([]byte("x"), 1000)))), 300)
	query := func(text string) []byte { return frontend(&pgproto3.Query{String: text}) }
	return []guardedConversation{
		{what: "execute", request: chain(extended, synced), sent: chain(g, extended, synced),
			server: chain(ok, bound, readied), driver: chain(bound, readied)},
		{what: "execute of an unnamed statement", request: chain(parsed, synced), sent: chain(g, parsed, synced),
			server: chain(ok, backend(&pgproto3.ParseComplete{}), bound, readied), driver: chain(backend(&pgproto3.ParseComplete{}), bound, readied)},
		{what: "a large result", request: chain(extended, synced), sent: chain(g, extended, synced),
			server: chain(ok, many, bound, readied), driver: chain(many, bound, readied)},
		{what: "execute, refused by the guard", request: chain(extended, synced), sent: chain(g, extended, synced),
			server: chain(backend(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}), bad, readied), driver: chain(bad, readied), refused: true},
		{what: "execute, refused itself", request: chain(extended, synced), sent: chain(g, extended, synced),
			server: chain(ok, backend(refusal), readied), driver: chain(backend(refusal), readied)},
		{what: "messages in the guard's answer", request: chain(extended, synced), sent: chain(g, extended, synced),
			server: chain(backend(notice), ok[:10], backend(setting), ok[10:], bound, readied), driver: chain(backend(notice, setting), bound, readied)},
		{what: "batch", request: chain(extended, extended, synced), sent: chain(g, extended, extended, synced),
			server: chain(ok, bound, result, readied), driver: chain(bound, result, readied)},
		{what: "prepare, then execute", request: chain(prepare, extended, synced), sent: chain(prepare, g, extended, synced),
			server: chain(bound[:10], readied, ok, bound, readied), driver: chain(bound[:10], readied, bound, readied)},
		{what: "simple query", request: query("select 1"), sent: query(text + "; select 1"), shift: len(text) + 2,
			server: chain(simpleOK, result, readied), driver: chain(result, readied)},
		{what: "simple query, refused by the guard", request: query("select 1"), sent: query(text + "; select 1"), shift: len(text) + 2,
			server: chain(fields, bad, readied), driver: chain(bad, readied), refused: true},
		{what: "begin", request: query("begin read only"), sent: query("begin read only; " + text),
			server: chain(begun, simpleOK, open), driver: chain(begun, open)},
		{what: "begin, refused by the guard", request: query("begin read only"), sent: query("begin read only; " + text),
			server: chain(begun, bad, backend(failed)), driver: chain(begun, bad, backend(failed)), refused: true},
		{what: "begin that fails", request: query("begin read only"), sent: query("begin read only; " + text),
			server: backend(refusal, idle), driver: backend(refusal, idle)},
		{what: "bind of what another request has left", request: unnamed,
			server: chain(bound, readied), driver: chain(bound, readied)},
	}
}

func TestGuardedConversations(t *testing.T) {
	for _, c := range guardedConversations() {
		for _, size := range []int{1, 3, 7, 100, 1 << 20} {
			t.Run(fmt.Sprintf("%s/reads of up to %d", c.what, size), func(t *testing.T) {
				w := &wire{reads: []any{greeted, c.server}}
				conn := wrap(&choppy{w, rand.New(rand.NewPCG(1, uint64(size))), size})
				greet(t, conn)
				if c.sent == nil {
					c.sent = c.request
				}
				conn.Guard(NewGuard("select guard"))
				send(t, conn, c.request)
				if len(w.written) != 1 || !bytes.Equal(w.written[0], c.sent) {
					t.Errorf("the server gets %q\nwant %q", w.written, c.sent)
				}
				expect(t, conn, c.driver)
				if refused, shift := conn.Refused(); refused != c.refused || shift != c.shift {
					t.Errorf("refused %v, shift %d, want %v, %d", refused, shift, c.refused, c.shift)
				}

				// A guard is for one request, and leaves stamps as they are.
				w.reads = append(w.reads, c.server)
				send(t, conn, c.request)
				if got := w.written[len(w.written)-1]; !bytes.Equal(got, c.request) {
					t.Errorf("the next time, the server gets %q, want %q", got, c.request)
				}
				expect(t, conn, c.server)
				conn.Arm(Query)
				w.reads = append(w.reads, backend(inserted, idle), answer("0/15"))
				send(t, conn, simple)
				expect(t, conn, backend(inserted, idle))
				takes(t, conn, "0/15")
			})
		}
	}
}

// A request that arrives in parts cannot have a guard, and is not harmed.
func TestGuardOfARequestInParts(t *testing.T) {
	w := &wire{reads: []any{greeted, bound, readied}}
	conn := wrap(w)
	greet(t, conn)
	conn.Guard(NewGuard("select guard"))
	send(t, conn, extended)
	send(t, conn, synced)
	if got := bytes.Join(w.written, nil); !bytes.Equal(got, chain(extended, synced)) {
		t.Errorf("the server gets %q", got)
	}
	expect(t, conn, chain(bound, readied))
	if refused, _ := conn.Refused(); refused {
		t.Error("refused by a guard that was not sent")
	}
}

// reads are what pgx can do that a guard goes in front of.
var reads = []struct {
	what string
	do   func(ctx context.Context, c *pgx.Conn, mode pgx.QueryExecMode) error
}{
	{"query row", func(ctx context.Context, c *pgx.Conn, mode pgx.QueryExecMode) error {
		var n int
		err := c.QueryRow(ctx, "select $1::int + 1", mode, 1).Scan(&n)
		if err == nil && n != 2 {
			err = fmt.Errorf("the server says %d", n)
		}
		return err
	}},
	{"query without arguments", func(ctx context.Context, c *pgx.Conn, mode pgx.QueryExecMode) error {
		rows, _ := c.Query(ctx, "select n, repeat('x', 1000) from generate_series(1, 300) n", mode)
		n, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (n int, err error) { return n, r.Scan(&n, nil) })
		if err == nil && (len(n) != 300 || n[299] != 300) {
			err = fmt.Errorf("%d rows", len(n))
		}
		return err
	}},
	{"exec", func(ctx context.Context, c *pgx.Conn, mode pgx.QueryExecMode) error {
		tag, err := c.Exec(ctx, "select 1 from generate_series(1, 3)", mode)
		if err == nil && tag.RowsAffected() != 3 {
			err = fmt.Errorf("command tag %v", tag)
		}
		return err
	}},
	{"begin", func(ctx context.Context, c *pgx.Conn, _ pgx.QueryExecMode) error {
		tx, err := c.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead})
		if err != nil {
			return err
		}
		return tx.Commit(ctx)
	}},
	{"batch", func(ctx context.Context, c *pgx.Conn, _ pgx.QueryExecMode) error {
		b := &pgx.Batch{}
		b.Queue("select 1")
		b.Queue("select $1::int", 2)
		r := c.SendBatch(ctx, b)
		var one, two int
		err := errors.Join(r.QueryRow().Scan(&one), r.QueryRow().Scan(&two), r.Close())
		if err == nil && (one != 1 || two != 2) {
			err = fmt.Errorf("the server says %d and %d", one, two)
		}
		return err
	}},
}

func (s *server) testGuards(ctx context.Context, t *testing.T) {
	pass := NewGuard("select 1 / (pg_backend_pid() > 0)::int")
	fail := NewGuard("select 1 / (pg_backend_pid() < 0)::int")
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for _, r := range reads {
			if r.what == "batch" && mode == pgx.QueryExecModeExec {
				continue // pgx writes it past its own frontend
			}
			t.Run(fmt.Sprintf("%v/%s", mode, r.what), func(t *testing.T) {
				c := s.connect(ctx, t, 0, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
				for range 3 {
					c.stamp.Guard(pass)
					if err := r.do(ctx, c.Conn, mode); err != nil {
						t.Fatalf("with a guard that passes: %v", err)
					}
					if refused, _ := c.stamp.Refused(); refused {
						t.Error("refused by a guard that passes")
					}
				}
				c.stamp.Guard(fail)
				var pg *pgconn.PgError
				if err := r.do(ctx, c.Conn, mode); !errors.As(err, &pg) || pg.Code != "22012" {
					t.Errorf("with a guard that fails: %v, want the guard's error", err)
				}
				if refused, _ := c.stamp.Refused(); !refused {
					t.Error("not refused by a guard that fails")
				}
			})
		}
	}
	t.Run("position in an error", func(t *testing.T) {
		c := s.connect(ctx, t, 0, nil)
		c.stamp.Guard(pass)
		_, err := c.Exec(ctx, "select nothing")
		var pg *pgconn.PgError
		_, shift := c.stamp.Refused()
		if !errors.As(err, &pg) || int(pg.Position)-shift != 8 {
			t.Errorf("%v with a shift of %d, want position 8", err, shift)
		}
	})
	t.Run("stamps ask another question", func(t *testing.T) {
		c := s.connect(ctx, t, 0, nil)
		c.stamp.Ask(NewQuestion(Position + " || '@here'"))
		for _, o := range operations {
			c.stamp.Arm(o.mode)
			if err := o.do(ctx, c, s.id()); err != nil {
				t.Fatal(err)
			}
			if text, ok := c.stamp.Take(); !ok || !bytes.HasSuffix([]byte(text), []byte("@here")) {
				t.Errorf("%s: stamp %q, %v", o.what, text, ok)
			}
		}
	})
}
