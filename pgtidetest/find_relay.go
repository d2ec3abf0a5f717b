package pgtidetest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Codes of the messages that begin a connection.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

// relay is a door to one node on loopback: the witness sees every statement that
// goes through, whoever sent it and with whatever driver.
type relay struct {
	node, target string
	witness      *witness
	listener     net.Listener
	served       sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	open   map[net.Conn]struct{}
	closed bool
}

func newRelay(node, target string, w *witness) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before %s: %w", node, err)
	}
	r := &relay{node: node, target: target, witness: w, listener: l, open: map[net.Conn]struct{}{}}
	r.served.Go(r.serve)
	return r, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) serve() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.served.Go(func() { r.handle(client) })
	}
}

// close ends all connections, and returns when nothing of the relay runs.
func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		c.Close()
	}
	r.mu.Unlock()
	r.served.Wait()
}

// hold has close end c too. It reports false if that is over already.
func (r *relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.Close()
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *relay) handle(client net.Conn) {
	if !r.hold(client) {
		return
	}
	defer r.drop(client)
	in := bufio.NewReader(client)
	hello, err := readHello(in, client)
	if err != nil {
		return
	}
	server, err := net.DialTimeout("tcp", r.target, 5*time.Second)
	if err != nil || !r.hold(server) {
		return
	}
	defer r.drop(server)
	if _, err := server.Write(hello); err != nil || binary.BigEndian.Uint32(hello[4:]) == cancelRequest {
		return
	}
	w := newWire(r, client, server, parameters(hello)["application_name"])
	defer w.forget()
	r.served.Go(func() {
		w.fromServer()
		client.Close()
		server.Close()
	})
	w.fromClient(in)
}

// readHello returns the client's first message. A client that asks for encryption
// first is told that there is none: it stays on loopback.
func readHello(in *bufio.Reader, out io.Writer) ([]byte, error) {
	for {
		head, err := in.Peek(8)
		if err != nil {
			return nil, err
		}
		length, code := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if length < 8 || length > 1<<16 {
			return nil, errors.New("not a client of PostgreSQL")
		}
		message := make([]byte, length)
		if _, err := io.ReadFull(in, message); err != nil {
			return nil, err
		}
		if code != sslRequest && code != gssRequest {
			return message, nil
		}
		if _, err := out.Write([]byte{'N'}); err != nil {
			return nil, err
		}
	}
}

// parameters reads what a client says of itself.
func parameters(hello []byte) map[string]string {
	m := map[string]string{}
	fields := strings.Split(string(hello[8:]), "\x00")
	for i := 0; i+1 < len(fields) && fields[i] != ""; i += 2 {
		m[fields[i]] = fields[i+1]
	}
	return m
}

// readMessage returns the next message with its head, in buf if there is room.
func readMessage(in *bufio.Reader, buf []byte) ([]byte, error) {
	head, err := in.Peek(5)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(head[1:]))
	if length < 4 || length > 1<<30 {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	if length++; cap(buf) < length {
		buf = make([]byte, length)
	}
	_, err = io.ReadFull(in, buf[:length])
	return buf[:length], err
}

// pass copies messages from in to out, and shows each to see first. It gathers
// what has come at once.
func pass(in *bufio.Reader, to io.Writer, see func(kind byte, body []byte) error) error {
	out := bufio.NewWriter(to)
	var buf []byte
	for {
		message, err := readMessage(in, buf)
		if err != nil {
			return err
		}
		if err := see(message[0], message[5:]); err != nil {
			return err
		}
		if _, err := out.Write(message); err != nil {
			return err
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if buf = message; cap(buf) > 1<<20 {
			buf = nil
		}
	}
}
