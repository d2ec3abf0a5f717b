package pgtide_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
)

// gate is a TCP proxy in front of a server. While deaf it passes requests on
// and keeps the answers; cut closes all connections.
type gate struct {
	listener net.Listener
	target   string
	deaf     atomic.Bool

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, target: target}
	t.Cleanup(func() { l.Close(); g.cut() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			g.mu.Lock()
			g.conns = append(g.conns, client, server)
			g.mu.Unlock()
			pass := func(to io.Writer, from io.Reader) {
				io.Copy(to, from)
				client.Close()
				server.Close()
			}
			go pass(server, client)
			go pass(deafWriter{client, g}, server)
		}
	}()
	return g
}

type deafWriter struct {
	net.Conn
	gate *gate
}

func (w deafWriter) Write(b []byte) (int, error) {
	if w.gate.deaf.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

func TestUnansweredWriteIsNotSentAgain(t *testing.T) {
	t.Parallel()
	primary := shared.Primary()
	config, err := pgx.ParseConfig(primary.DSN())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	gate := newGate(t, address)
	through := strings.Replace(primary.DSN(), address, gate.listener.Addr().String(), 1)
	db := open(t, shared, pgtide.Options{Nodes: []pgtide.Node{{Name: "primary", DSN: through}}})
	direct := open(t, shared, pgtide.Options{})

	for name, write := range map[string]func(ctx context.Context, text string) error{
		"exec": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values ($1)", text)
			return err
		},
		"exec without arguments": func(ctx context.Context, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values ('"+text+"')")
			return err
		},
		"query": func(ctx context.Context, text string) error {
			var id int64
			return db.QueryRow(ctx, "insert into message (text) values ($1) returning id", text).Scan(&id)
		},
		"function": func(ctx context.Context, text string) error {
			var id int64
			return db.QueryRow(ctx, "select write_message($1)", text).Scan(&id)
		},
		"batch": func(ctx context.Context, text string) error {
			b := &pgx.Batch{}
			b.Queue("insert into message (text) values ($1)", text)
			return db.SendBatch(ctx, b).Close()
		},
		"copy": func(ctx context.Context, text string) error {
			rows := 0
			_, err := db.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromFunc(func() ([]any, error) {
				if rows++; rows > 1 {
					return nil, nil
				}
				if text != "warm up" {
					gate.cut() // rows cannot be put back into their source
				}
				return []any{text}, nil
			}))
			return err
		},
		"commit": func(ctx context.Context, text string) error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback(ctx)
			if _, err := tx.Exec(ctx, "insert into message (text) values ($1)", text); err != nil {
				return err
			}
			gate.deaf.Store(text != "warm up")
			return tx.Commit(ctx)
		},
	} {
		ctx := pgtide.NewSession(t.Context())
		text := fmt.Sprintf("unanswered %s %d", name, time.Now().UnixNano())
		// Statements are prepared first: the answer to that must get through.
		if err := write(ctx, "warm up"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		gate.deaf.Store(name != "commit" && name != "copy")
		result := make(chan error, 1)
		go func() { result <- write(ctx, text) }()
		if name != "copy" {
			until(t, name+" to be committed", func() bool { return count(t, direct, text) == 1 })
			gate.cut()
			gate.deaf.Store(false)
		}
		err := <-result
		if !errors.Is(err, pgtide.ErrOutcomeUnknown) || !pgtide.OutcomeUnknown(err) {
			t.Errorf("%s: unanswered write: %v, want ErrOutcomeUnknown", name, err)
		}
		var typed *pgtide.OutcomeUnknownError
		if !errors.As(err, &typed) || typed.Node != "primary" || typed.Err == nil {
			t.Errorf("%s: %#v, want an OutcomeUnknownError with node and cause", name, err)
		}
		if _, err := db.Exec(ctx, "select 1"); err != nil {
			t.Errorf("%s: call after the broken connection: %v", name, err)
		}
		if n := count(t, direct, text); n > 1 || n == 0 && name != "copy" {
			t.Errorf("%s: the write was done %d times", name, n)
		}
	}
}

func TestUnansweredWriteOfTheSimpleProtocolIsNotSentAgain(t *testing.T) {
	t.Parallel()
	primary := shared.Primary()
	config, err := pgx.ParseConfig(primary.DSN())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	direct := open(t, shared, pgtide.Options{})
	const insert = "insert into message (text) values ($1)"
	for name, write := range map[string]func(ctx context.Context, db *pgtide.DB, text string) error{
		"exec without arguments": func(ctx context.Context, db *pgtide.DB, text string) error {
			_, err := db.Exec(ctx, "insert into message (text) values ('"+text+"')")
			return err
		},
		"exec": func(ctx context.Context, db *pgtide.DB, text string) error {
			_, err := db.Exec(ctx, insert, pgx.QueryExecModeSimpleProtocol, text)
			return err
		},
		"query": func(ctx context.Context, db *pgtide.DB, text string) error {
			var id int64
			return db.QueryRow(ctx, insert+" returning id", pgx.QueryExecModeSimpleProtocol, text).Scan(&id)
		},
	} {
		for _, where := range []string{"in a session", "outside a session"} {
			gate := newGate(t, address)
			through := strings.Replace(primary.DSN(), address, gate.listener.Addr().String(), 1)
			db := open(t, shared, pgtide.Options{Nodes: []pgtide.Node{{Name: "primary", DSN: through}}})
			ctx, text := t.Context(), fmt.Sprintf("unanswered simple %s %s %d", name, where, time.Now().UnixNano())
			if where == "in a session" {
				ctx = pgtide.NewSession(ctx)
			}
			if err := db.Ping(ctx); err != nil { // there is a connection to use
				t.Fatal(err)
			}
			gate.deaf.Store(true)
			result := make(chan error, 1)
			go func() { result <- write(ctx, db, text) }()
			until(t, name+" to be committed", func() bool { return count(t, direct, text) == 1 })
			gate.cut()
			gate.deaf.Store(false)
			if err := <-result; !errors.Is(err, pgtide.ErrOutcomeUnknown) {
				t.Errorf("%s %s: unanswered write: %v, want ErrOutcomeUnknown", name, where, err)
			}
			if n := count(t, direct, text); n != 1 {
				t.Errorf("%s %s: the write was done %d times", name, where, n)
			}
		}
	}
}

func count(t *testing.T, db *pgtide.DB, text string) (n int) {
	t.Helper()
	if err := db.QueryRow(pgtide.OnPrimary(t.Context()), "select count(*) from message where text = $1", text).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
