package watch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtide/pgtide/internal/topology"
)

// starting is what clients meet while a server starts: it lets them in, tells
// them to come again, and one day is ready. A real one is rarely so slow.
type starting struct {
	net.Listener
	ready   atomic.Bool
	refused atomic.Int64
}

func startSlowly(t *testing.T, port int) *starting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &starting{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(client, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		}
	}()
	return s
}

func (s *starting) serve(client net.Conn, target string) {
	defer client.Close()
	if !s.ready.Load() {
		backend := pgproto3.NewBackend(client, client)
		if _, err := backend.ReceiveStartupMessage(); err == nil {
			s.refused.Add(1)
			backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
			_ = backend.Flush()
		}
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { io.Copy(server, client); server.Close() }()
	io.Copy(client, server)
}

func TestServerThatIsStartingUp(t *testing.T) {
	s := startSlowly(t, cluster.Primary().Port())
	w := watchNodes(t, every(20*time.Millisecond), node(t, "slow", "postgres://app@"+s.Addr().String()+"/app?sslmode=disable"))
	// With somebody in waiting it is asked as often as may be, and no oftener.
	attention := w.Attend(1)
	defer attention.Leave()
	began := time.Now()
	v := await(t, w, "some refusals", func(*topology.View) bool { return s.refused.Load() > 10 })
	if d := time.Since(began); d < 9*reconnect {
		t.Errorf("a server that starts up was asked %d times in %v, want once each %v", s.refused.Load(), d, reconnect)
	}
	var pg *pgconn.PgError
	if n := v.Nodes[0]; n.State != topology.Down || !errors.As(n.Err, &pg) || pg.Code != "57P03" || n.Misses != 0 {
		t.Errorf("%+v, want it down for what it says, and not for being silent", n)
	}
	s.ready.Store(true)
	await(t, w, "the server", func(v *topology.View) bool { return v.Primary == 0 })
}

func TestProbingConnectionThatIsTerminated(t *testing.T) {
	w := watch(t, every(20*time.Millisecond))
	v := await(t, w, "the replica", func(v *topology.View) bool { return v.Nodes[1].State == topology.Up })
	incarnation := v.Nodes[1].Incarnation
	super, err := pgx.Connect(t.Context(), cluster.Replicas()[0].SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	for range 5 {
		var ended int
		const terminate = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where application_name = 'pgtide watch'"
		if err := super.QueryRow(t.Context(), terminate).Scan(&ended); err != nil || ended == 0 {
			t.Fatalf("%d connections of the watcher were terminated (%v), want one", ended, err)
		}
		probes := w.Probes(1)
		v := await(t, w, "the replica again", func(v *topology.View) bool {
			return w.Probes(1) > probes+1 && v.Nodes[1].State == topology.Up
		})
		if v.Nodes[1].Incarnation != incarnation {
			t.Error("another run of the server is seen: there was none")
		}
	}
}

func TestFullServerIsWatched(t *testing.T) {
	super, err := pgx.Connect(t.Context(), cluster.Primary().SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	role := fmt.Sprintf("few_%d", time.Now().UnixNano())
	if _, err := super.Exec(t.Context(), "create role "+role+" login connection limit 1"); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(cluster.Primary().DSN(), "//app", "//"+role, 1)
	w := watchNodes(t, every(10*time.Millisecond), node(t, "full", dsn))
	await(t, w, "the server", func(v *topology.View) bool { return v.Primary == 0 })
	var pg *pgconn.PgError
	if _, err := pgx.Connect(t.Context(), dsn); !errors.As(err, &pg) || pg.Code != "53300" {
		t.Fatalf("another connection: %v, want too many connections", err)
	}
	down := false
	probes := w.Probes(0)
	await(t, w, "more probes", func(v *topology.View) bool {
		down = down || v.Nodes[0].State != topology.Up
		return w.Probes(0) > probes+50
	})
	if down {
		t.Error("a server that is full was called down: the watcher has its connection")
	}
}
