//go:build unix

package alive

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// becomes polls: the kernel delivers without a signal.
func becomes(t *testing.T, what string, conn net.Conn, want bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); Check(conn) != want; {
		if time.Now().After(deadline) {
			t.Fatalf("%s: Check stays %v", what, !want)
		}
	}
}

func TestCheck(t *testing.T) {
	idle, _ := pair(t)
	if !Check(idle) {
		t.Error("an idle connection is called closed")
	}

	noticed, server := pair(t)
	server.Write([]byte("N"))
	read := make([]byte, 1)
	if !Check(noticed) {
		t.Error("a connection with a notice is called closed")
	}
	if n, err := noticed.Read(read); n != 1 || err != nil || read[0] != 'N' {
		t.Errorf("what was peeked at is gone: %q, %v", read, err)
	}

	ended, server := pair(t)
	server.Write([]byte("E"))
	becomes(t, "the server said goodbye", ended, false)

	closed, server := pair(t)
	server.Close()
	becomes(t, "the server closed", closed, false)

	reset, server := pair(t)
	server.(*net.TCPConn).SetLinger(0)
	server.Close()
	becomes(t, "the server reset", reset, false)

	ours, _ := pair(t)
	ours.Close()
	if Check(ours) {
		t.Error("a connection that we closed is called open")
	}

	client, server := pair(t)
	secret := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	server.Write([]byte("E"))
	if !Check(secret) {
		t.Error("the bytes of a TLS connection are taken for messages")
	}
	server.Close()
	if _, err := client.Read(read); err != nil {
		t.Fatal(err)
	}
	becomes(t, "the server closed under TLS", secret, false)

	if pipe, _ := net.Pipe(); !Check(pipe) {
		t.Error("a connection that cannot be asked is called closed")
	}
}

// The driver may have left a Read behind: Check must neither wait for it nor
// disturb it.
func TestCheckWhileRead(t *testing.T) {
	client, server := pair(t)
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	reading, began := make(chan struct{}), false
	go raw.Read(func(uintptr) bool { // ends when client is closed
		if !began {
			began = true
			close(reading)
		}
		return false
	})
	<-reading
	answer := make(chan bool, 1)
	go func() { answer <- Check(client) }()
	select {
	case open := <-answer:
		if !open {
			t.Error("an idle connection is called closed")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Check waits for a Read that is under way")
	}
	server.Close()
	becomes(t, "the server closed during a Read", client, false)
}

func BenchmarkCheck(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	b.ReportAllocs()
	for b.Loop() {
		if !Check(conn) {
			b.Fatal("closed")
		}
	}
}
