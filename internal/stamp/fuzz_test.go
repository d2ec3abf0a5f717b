package stamp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// FuzzServer lets a server say anything, cut anywhere, to a connection that is
// armed and one that is not.
func FuzzServer(f *testing.F) {
	for _, c := range conversations() {
		if len(c.server) > 4096 {
			continue // too slow to mutate
		}
		f.Add(c.server, []byte{0, 1, 2, 3, 4}, uint64(1))
		f.Add(c.server[:len(c.server)-1], []byte{1}, uint64(2))
	}
	f.Add([]byte{'Z', 0, 0, 0, 0, 'D', 0xff, 0xff, 0xff, 0xff, 'Z', 0, 0, 0, 5, 'I'}, []byte{0, 0}, uint64(3))
	f.Fuzz(func(t *testing.T, server, script []byte, seed uint64) {
		if got := readAll(t, wrap(cutUp(server, seed))); !bytes.Equal(got, server) {
			t.Fatalf("not armed, the driver reads %q of %q", got, server)
		}
		whole, lsn, ok := armed(t, wrap(&wire{reads: []any{server}}), script)
		parts, lsn2, ok2 := armed(t, wrap(cutUp(server, seed)), script)
		if !bytes.Equal(whole, parts) || lsn != lsn2 || ok != ok2 {
			t.Fatalf("the driver reads %q with stamp %q, %v\nand %q with stamp %q, %v when the bytes come in parts", whole, lsn, ok, parts, lsn2, ok2)
		}
		if len(whole) > len(server) {
			t.Fatalf("the driver reads %d bytes, the server sent %d", len(whole), len(server))
		}
	})
}

func cutUp(b []byte, seed uint64) *choppy {
	return &choppy{&wire{reads: []any{b}}, rand.New(rand.NewPCG(seed, 0)), 1 + int(seed%9)}
}

// armed sends the requests of script and reads all that comes.
func armed(t *testing.T, c *Conn, script []byte) ([]byte, string, bool) {
	c.Arm(Query)
	requests := [][]byte{simple, chain(extended, synced), commit, prepare, chain(extended, extended, synced)}
	for _, s := range script[:min(len(script), 20)] {
		send(t, c, requests[int(s)%len(requests)])
	}
	got := readAll(t, c)
	lsn, ok := c.Take()
	return got, lsn, ok
}

func readAll(t *testing.T, c *Conn) []byte {
	var got []byte
	p := make([]byte, 64)
	for {
		n, err := c.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatalf("Read returns %v, want what the server's end returns", err)
			}
			return got
		}
		if n == 0 {
			t.Fatal("Read returns nothing and no error")
		}
	}
}

// FuzzDriver lets a driver say anything, cut anywhere. Not armed it all goes
// out as it is, and armed the server never gets less than that.
func FuzzDriver(f *testing.F) {
	for _, c := range conversations() {
		f.Add(c.request, uint64(1), c.mode == Copy)
	}
	f.Fuzz(func(t *testing.T, request []byte, seed uint64, copies bool) {
		plain, armed := &wire{}, &wire{}
		idle, busy := wrap(plain), wrap(armed)
		busy.Arm(Query)
		if copies {
			busy.Arm(Copy)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		for rest := request; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			send(t, idle, rest[:n])
			send(t, busy, rest[:n])
			rest = rest[n:]
		}
		if got := chain(plain.written...); !bytes.Equal(got, request) {
			t.Fatalf("not armed, the server gets %q of %q", got, request)
		}
		got := chain(armed.written...)
		for _, ours := range [][]byte{inlineQuestion, question} {
			got = bytes.ReplaceAll(got, ours, nil)
		}
		got = bytes.ReplaceAll(got, commitQuestion, commit)
		want := bytes.ReplaceAll(bytes.ReplaceAll(request, inlineQuestion, nil), question, nil)
		if !bytes.Equal(got, want) && !bytes.Contains(request, commitQuestion) {
			t.Fatalf("armed, the server gets %q without the questions, want %q", got, want)
		}
	})
}
