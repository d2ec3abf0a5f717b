package pgtidehttp

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// WebSocket libraries take a connection over in this way, and in the next.
func TestSwitchingProtocols(t *testing.T) {
	m := newTest(t, Options{})
	token := newToken(t, home, 100)
	server := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write(r.Context(), token)
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer conn.Close()
		echo(t, rw)
	})))
	defer server.Close()
	conn, res := dial(t, server)
	if got, _ := sent(t, m, res.Header); res.StatusCode != 101 || !got.Equal(token) {
		t.Errorf("the response is %d and carries %v, want 101 and %v", res.StatusCode, got, token)
	}
	conn.expectEcho(t)
}

// A handler that hijacks first writes the header by itself.
func TestHijack(t *testing.T) {
	m := newTest(t, Options{})
	token := newToken(t, home, 100)
	server := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write(r.Context(), token)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n")
		w.Header().Write(rw)
		fmt.Fprint(rw, "\r\n")
		rw.Flush()
		echo(t, rw)
	})))
	defer server.Close()
	conn, res := dial(t, server)
	if got, _ := sent(t, m, res.Header); !got.Equal(token) {
		t.Errorf("the response carries %v, want %v", got, token)
	}
	conn.expectEcho(t)
}

func echo(t *testing.T, rw *bufio.ReadWriter) {
	line, err := rw.ReadString('\n')
	if err != nil {
		t.Errorf("read from the hijacked connection: %v", err)
	}
	rw.WriteString(line)
	rw.Flush()
}

type client struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, server *httptest.Server) (*client, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	c := &client{conn, bufio.NewReader(conn)}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatalf("read the response: %v", err)
	}
	return c, res
}

func (c *client) expectEcho(t *testing.T) {
	t.Helper()
	fmt.Fprintln(c, "ping")
	if line, err := c.in.ReadString('\n'); line != "ping\n" {
		t.Errorf("the hijacked connection answers %q (%v), want ping", line, err)
	}
}

// bare is a ResponseWriter with nothing beside what the interface asks for.
type bare struct{ http.ResponseWriter }

// What the writer behind cannot do sends no header, so a later write is still
// in time.
func TestUnsupported(t *testing.T) {
	early, late := newToken(t, home, 100), newToken(t, home, 200)
	for _, tt := range []struct {
		name string
		call func(*http.ResponseController) error
	}{
		{"flush", (*http.ResponseController).Flush},
		{"hijack", func(c *http.ResponseController) error { _, _, err := c.Hijack(); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, w := newTest(t, Options{}), httptest.NewRecorder()
			m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				write(r.Context(), early)
				if err := tt.call(http.NewResponseController(w)); !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("%s returns %v, want ErrNotSupported", tt.name, err)
				}
				write(r.Context(), late)
				w.WriteHeader(http.StatusCreated)
				if err := tt.call(http.NewResponseController(w)); !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("%s returns %v, want ErrNotSupported", tt.name, err)
				}
				write(r.Context(), newToken(t, home, 300))
			})).ServeHTTP(bare{w}, get())
			if got, _ := sent(t, m, w.Result().Header); !got.Equal(late) {
				t.Errorf("the response carries %v, want %v", got, late)
			}
			if got := m.Stat().Late; got != 1 {
				t.Errorf("%d responses were late, want 1: the header was out before the last write", got)
			}
		})
	}
}
