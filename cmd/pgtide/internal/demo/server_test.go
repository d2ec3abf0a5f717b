package demo

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func TestListenTaken(t *testing.T) {
	taken, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	next, err := listen(t.Context(), taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	first, got := taken.Addr().(*net.TCPAddr).Port, next.Addr().(*net.TCPAddr).Port
	if got <= first || got > first+morePorts {
		t.Errorf("listen on taken port %d: got port %d, want one of the next %d", first, got, morePorts)
	}
}

func TestErrListen(t *testing.T) {
	for _, addr := range []string{"", "8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"} {
		l, err := listen(t.Context(), addr)
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), addr) {
			t.Errorf("listen on %q: got error %v, want ErrOptions and the address", addr, err)
		}
	}
	// An address of nobody's, from RFC 5737.
	if l, err := listen(t.Context(), "192.0.2.1:8080"); err == nil {
		l.Close()
		t.Error("listen on 192.0.2.1: got no error")
	}
}
