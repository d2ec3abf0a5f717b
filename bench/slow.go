package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// slowed stands between pools and a server on loopback and holds back what the
// server says.
type slowed struct {
	listener net.Listener
	server   string
	group    sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	by     time.Duration
	single bool
	free   time.Time // when a single server is done with what it has
	conns  map[net.Conn]struct{}
	closed bool
}

// slow makes a slowed for the server at an address, which delays nothing yet.
func slow(server string) (*slowed, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &slowed{listener: l, server: server, conns: map[net.Conn]struct{}{}}
	s.group.Go(s.accept)
	return s, nil
}

// address is where pools connect to.
func (s *slowed) address() string { return s.listener.Addr().String() }

// delay holds every answer back by d from now on, however many there are at once.
func (s *slowed) delay(d time.Duration) { s.set(d, false) }

// queue makes the server one that works on one answer at a time, for d each: one
// that has too much to do.
func (s *slowed) queue(d time.Duration) { s.set(d, true) }

func (s *slowed) set(d time.Duration, single bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by, s.single, s.free = d, single, time.Time{}
}

// due returns when an answer that has come now is passed on.
func (s *slowed) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := time.Now()
	if s.single && s.free.After(from) {
		from = s.free
	}
	s.free = from.Add(s.by)
	return s.free
}

// close ends all connections and waits until nothing of them runs.
func (s *slowed) close() {
	s.mu.Lock()
	s.closed = true
	s.listener.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.group.Wait()
}

// keep has close end c; once closed, it ends it at once.
func (s *slowed) keep(c net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(net.ErrClosed, c.Close())
	}
	s.conns[c] = struct{}{}
	return nil
}

func (s *slowed) drop(conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(s.conns, c)
	}
}

func (s *slowed) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		if s.keep(client) == nil {
			s.group.Go(func() { s.serve(client) })
		}
	}
}

// part is some of what the server said.
type part struct {
	text []byte
	due  time.Time
}

// serve carries one connection until either end closes it.
func (s *slowed) serve(client net.Conn) {
	server, err := net.Dial("tcp", s.server)
	if err != nil || s.keep(server) != nil {
		s.drop(client)
		return
	}
	var group sync.WaitGroup
	group.Go(func() {
		defer s.drop(client, server)
		buf := make([]byte, 16<<10)
		for {
			n, err := client.Read(buf)
			if _, failed := server.Write(buf[:n]); err != nil || failed != nil {
				return
			}
		}
	})
	// What comes while an answer is held back has a time of its own: a long
	// result is delayed once.
	held := make(chan part, 256)
	group.Go(func() {
		defer close(held)
		buf := make([]byte, 16<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 {
				held <- part{append([]byte(nil), buf[:n]...), s.due()}
			}
			if err != nil {
				return
			}
		}
	})
	group.Go(func() {
		defer s.drop(client, server)
		failed := false
		for a := range held {
			if !failed {
				time.Sleep(time.Until(a.due))
				_, err := client.Write(a.text)
				failed = err != nil
			}
		}
	})
	group.Wait()
}
