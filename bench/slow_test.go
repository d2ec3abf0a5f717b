package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// echo is a server that says what it is told.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

// through connects to the echo behind s.
func through(t *testing.T, s *slowed) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say sends text and returns how long it took to come back.
func say(c net.Conn, text string) (time.Duration, error) {
	began := time.Now()
	if _, err := io.WriteString(c, text); err != nil {
		return 0, err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return 0, err
	}
	if string(got) != text {
		return 0, fmt.Errorf("got %q, want %q", got, text)
	}
	return time.Since(began), nil
}

func TestSlowed(t *testing.T) {
	s, err := slow(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(s.close)
	t.Cleanup(closed)
	const d = 40 * time.Millisecond
	c := through(t, s)
	if _, err := say(c, "at once"); err != nil {
		t.Fatal(err)
	}
	s.delay(d)
	for range 3 {
		if took, err := say(c, "later"); err != nil || took < d {
			t.Errorf("an answer held back by %v came after %v (%v)", d, took, err)
		}
	}
	// Much is delayed once and comes in order.
	long := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if took, err := say(c, string(long)); err != nil || took < d {
		t.Errorf("a long answer: after %v (%v)", took, err)
	}
	s.delay(0)
	if _, err := say(c, "at once again"); err != nil {
		t.Error(err)
	}
	closed()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes from a proxy that is closed", n)
	}
	if c, err := net.Dial("tcp", s.address()); err == nil {
		c.Close()
		t.Error("a proxy that is closed takes connections")
	}
}

// A single server works on what all connections ask, one after the other.
func TestSlowedQueue(t *testing.T) {
	s, err := slow(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	const d, n = 30 * time.Millisecond, 4
	took := make(chan time.Duration, 2*n)
	all := func() (longest time.Duration) {
		var group sync.WaitGroup
		for range n {
			c := through(t, s)
			group.Go(func() {
				d, err := say(c, "mine")
				if err != nil {
					t.Error(err)
				}
				took <- d
			})
		}
		group.Wait()
		for range n {
			longest = max(longest, <-took)
		}
		return longest
	}
	s.queue(d)
	began := time.Now()
	if all(); time.Since(began) < n*d {
		t.Errorf("%d answers of %v each came within %v", n, d, time.Since(began))
	}
}
