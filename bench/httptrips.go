package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// questions counts what a DB's pools ask their servers: each Sync and each simple
// query waits for an answer of its own, which is a round trip.
type questions struct {
	n    atomic.Int64
	made sync.Map // *asking by local address
}

// asking is a connection whose questions are counted once a pool has it.
type asking struct {
	net.Conn
	on  atomic.Bool
	all *questions
}

func (c *asking) Write(b []byte) (int, error) {
	if c.on.Load() {
		c.all.n.Add(asked(b))
	}
	return c.Conn.Write(b)
}

// SyscallConn is for pgtide's look whether the server has hung up.
func (c *asking) SyscallConn() (syscall.RawConn, error) {
	return c.Conn.(syscall.Conn).SyscallConn()
}

// asked counts the questions in b, which are whole messages: a driver sends no
// parts of them.
func asked(b []byte) (n int64) {
	for len(b) >= 5 {
		if b[0] == 'S' || b[0] == 'Q' {
			n++
		}
		size := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if size > len(b) {
			return n
		}
		b = b[size:]
	}
	return n
}

// configure has the connections of a pool counted.
func (q *questions) configure(_ string, config *pgxpool.Config) error {
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		a := &asking{Conn: c, all: q}
		q.made.Store(c.LocalAddr().String(), a)
		return a, nil
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error { // not called for the watcher's
		if a, ok := q.made.Load(conn.PgConn().Conn().LocalAddr().String()); ok {
			a.(*asking).on.Store(true)
		}
		return nil
	}
	return nil
}

// trips counts the round trips of requests.
func trips(ctx context.Context, r *report, s servers) error {
	q := &questions{}
	db, err := pgtide.Open(ctx, pgtide.Options{
		Nodes:     []pgtide.Node{{Name: "primary", DSN: s.primary}, {Name: "replica", DSN: s.replica}},
		Configure: q.configure,
	})
	if err != nil {
		return err
	}
	defer db.Close()
	keys, err := pgtide.NewKeys([]byte("a key that signs nothing of worth"))
	if err != nil {
		return err
	}
	site := &site{db, pgtidehttp.New(db, pgtidehttp.Options{Keys: keys, Insecure: true})}
	client, err := site.login()
	if err != nil {
		return err
	}
	token, err := db.CurrentToken(ctx)
	if err == nil {
		err = db.WaitFor(ctx, token)
	}
	if err != nil {
		return err
	}
	twice := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.read(&discard{header: http.Header{}}, r)
		site.read(w, r)
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
		client  credentials
		budget  float64
	}{
		{"a request that does nothing", http.HandlerFunc(nothing), client, 0},
		{"a request that reads once, no token", http.HandlerFunc(site.read), credentials{}, 1},
		{"a request that reads once, cookie", http.HandlerFunc(site.read), credentials{cookie: client.cookie}, 1},
		{"a request that reads once, token in a header", http.HandlerFunc(site.read), credentials{token: client.token}, 1},
		{"a request that reads twice", twice, client, 2},
		{"a request that writes once", http.HandlerFunc(site.write), client, 1},
	} {
		const n = 200
		serve := serving(site.middleware.Wrap(c.handler), request(c.client))
		for warm := range 2 * n {
			if warm == n { // connections are made and statements prepared by now
				q.n.Store(0)
			}
			if err := serve(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		r.add(result{Name: "round trips of " + c.name, Ours: float64(q.n.Load()) / n, Unit: "trips", Budget: c.budget})
	}
	return nil
}
