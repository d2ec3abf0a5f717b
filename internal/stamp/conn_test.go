package stamp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// conversation is one armed request, what reaches the server of it, what the
// server says, and what the driver must read of that.
type conversation struct {
	what    string
	mode    Mode // Query unless told
	request []byte
	sent    []byte // request when nothing is asked
	server  []byte
	driver  []byte
	want    string // the stamp
}

func conversations() []conversation {
	ended := backend(inserted, idle)
	returning := backend(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("id")}}}, row("42"), row("43"), inserted)
	many := bytes.Repeat(backend(row(string(bytes.Repeat([]byte("x"), 1000)))), 300)
	done, given := frontend(&pgproto3.CopyDone{}), frontend(&pgproto3.CopyFail{Message: "no"})
	data := frontend(&pgproto3.CopyData{Data: []byte("1\n")})
	call := frontend(&pgproto3.FunctionCall{Function: 1})
	committed := backend(&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")})
	return []conversation{
		// Simple queries: a request of its own.
		{what: "simple query", request: simple, sent: chain(simple, question),
			server: chain(ended, answer("0/15")), driver: ended, want: "0/15"},
		{what: "simple query with rows", request: simple, sent: chain(simple, question),
			server: chain(returning, readied, answer("0/15")), driver: chain(returning, readied), want: "0/15"},
		{what: "simple query with a large result", request: simple, sent: chain(simple, question),
			server: chain(many, ended, answer("0/15")), driver: chain(many, ended), want: "0/15"},
		{what: "two simple queries at once", request: chain(simple, simple), sent: chain(simple, simple, question),
			server: chain(ended, ended, answer("0/15")), driver: chain(ended, ended), want: "0/15"},
		{what: "simple query refused", request: simple, sent: chain(simple, question),
			server: chain(backend(refusal, idle), answer("0/15")), driver: backend(refusal, idle), want: "0/15"},
		{what: "simple query and no stamp", request: simple, sent: chain(simple, question),
			server: chain(ended, backend(refusal, idle)), driver: ended},
		{what: "simple query and stamp refused in a failed transaction", request: simple, sent: chain(simple, question),
			server: chain(backend(refusal, failed), backend(refusal, failed)), driver: backend(refusal, failed)},
		{what: "stamp refused after its row", request: simple, sent: chain(simple, question),
			server: chain(ended, answerLess("0/15"), backend(refusal, idle)), driver: ended},
		{what: "a stamp that is null", request: simple, sent: chain(simple, question),
			server: chain(ended, backend(&pgproto3.DataRow{Values: [][]byte{nil}}, idle)), driver: ended},
		{what: "a stamp of no columns", request: simple, sent: chain(simple, question),
			server: chain(ended, backend(&pgproto3.DataRow{}, idle)), driver: ended},
		{what: "messages in the stamp's answer", request: simple, sent: chain(simple, question),
			server: chain(backend(inserted, idle, notice), answerLess("0/15"), backend(setting, notified, idle)),
			driver: backend(inserted, notice, setting, notified, idle), want: "0/15"},
		{what: "messages before and after", request: simple, sent: chain(simple, question),
			server: chain(backend(notice, inserted, idle), answer("0/15"), backend(notified)),
			driver: backend(notice, inserted, idle, notified), want: "0/15"},
		{what: "a function call", request: call,
			server: backend(&pgproto3.FunctionCallResponse{}, idle), driver: backend(&pgproto3.FunctionCallResponse{}, idle)},

		// The end of a transaction: asked in the same query.
		{what: "commit", request: commit, sent: commitQuestion,
			server: chain(committed, answer("0/15")), driver: chain(committed, readied), want: "0/15"},
		{what: "commit refused", request: commit, sent: commitQuestion,
			server: backend(refusal, idle), driver: backend(refusal, idle)},
		{what: "commit and no stamp", request: commit, sent: commitQuestion,
			server: chain(committed, backend(refusal, idle)), driver: chain(committed, readied)},
		{what: "commit with messages", request: commit, sent: commitQuestion,
			server: chain(committed, backend(notice), answerLess("0/15"), backend(notified, idle)),
			driver: chain(committed, backend(notice, notified, idle)), want: "0/15"},

		// The extended protocol: asked before the Sync.
		{what: "execute", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(bound, inlineAnswer("16/B374D848"), readied), driver: chain(bound, readied), want: "16/B374D848"},
		{what: "execute with rows", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(returning, inlineAnswer("0/15"), readied), driver: chain(returning, readied), want: "0/15"},
		{what: "execute with a large result", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(many, bound, inlineAnswer("0/15"), readied), driver: chain(many, bound, readied), want: "0/15"},
		{what: "execute of an empty statement", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(backend(&pgproto3.EmptyQueryResponse{}), inlineAnswer("0/15"), readied), driver: backend(&pgproto3.EmptyQueryResponse{}, idle), want: "0/15"},
		{what: "execute refused", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: backend(&pgproto3.BindComplete{}, refusal, idle), driver: backend(&pgproto3.BindComplete{}, refusal, idle)},
		{what: "execute whose commit is refused", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(bound, blockAnswer[:len(blockAnswer)-len(committed)], backend(refusal, idle)), driver: chain(bound, backend(refusal, idle))},
		{what: "execute and no stamp", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(bound, blockAnswer, backend(refusal, idle)), driver: chain(bound, readied)},
		{what: "execute with messages", request: chain(extended, synced), sent: chain(extended, inlineQuestion, synced),
			server: chain(backend(notice), bound, blockAnswer, backend(setting), inlineAnswer("0/15")[len(blockAnswer):], backend(notified, idle)),
			driver: chain(backend(notice), bound, backend(setting, notified, idle)), want: "0/15"},
		{what: "batch", request: chain(extended, extended, extended, synced), sent: chain(extended, extended, extended, inlineQuestion, synced),
			server: chain(bound, returning, bound, inlineAnswer("0/15"), readied), driver: chain(bound, returning, bound, readied), want: "0/15"},
		{what: "batch of which one is refused", request: chain(extended, extended, extended, synced), sent: chain(extended, extended, extended, inlineQuestion, synced),
			server: chain(bound, backend(refusal, idle)), driver: chain(bound, backend(refusal, idle))},
		{what: "two batches at once", request: chain(extended, synced, extended, extended, synced), sent: chain(extended, synced, extended, extended, inlineQuestion, synced),
			server: chain(bound, readied, bound, bound, inlineAnswer("0/15"), readied), driver: chain(bound, readied, bound, bound, readied), want: "0/15"},
		{what: "only prepared", request: prepare,
			server: backend(&pgproto3.ParseComplete{}, &pgproto3.NoData{}, idle), driver: backend(&pgproto3.ParseComplete{}, &pgproto3.NoData{}, idle)},

		{what: "copy", mode: Copy, request: chain(simple, data, done), sent: chain(simple, data, done, question),
			server: chain(ended, answer("0/15")), driver: ended, want: "0/15"},
		{what: "copy given up", mode: Copy, request: chain(simple, given), sent: chain(simple, given, question),
			server: chain(backend(refusal, idle), answer("0/15")), driver: backend(refusal, idle), want: "0/15"},
		{what: "copy refused before its end", mode: Copy, request: chain(simple, data),
			server: backend(refusal, idle), driver: backend(refusal, idle)},
	}
}

func TestConversations(t *testing.T) {
	for _, c := range conversations() {
		for _, size := range []int{1, 3, 7, 100, 1 << 20} {
			t.Run(fmt.Sprintf("%s/reads of up to %d", c.what, size), func(t *testing.T) {
				w := &wire{reads: []any{greeted, c.server}}
				conn := wrap(&choppy{w, rand.New(rand.NewPCG(1, uint64(size))), size})
				greet(t, conn)
				if c.mode == 0 {
					c.mode = Query
				}
				if c.sent == nil {
					c.sent = c.request
				}
				conn.Arm(c.mode)
				send(t, conn, c.request)
				if len(w.written) != 1 || !bytes.Equal(w.written[0], c.sent) {
					t.Errorf("the server gets %q\nwant %q", w.written, c.sent)
				}
				expect(t, conn, c.driver)
				takes(t, conn, c.want)

				// Not armed, nothing is touched any more.
				w.reads = append(w.reads, c.server)
				send(t, conn, c.request)
				if got := w.written[len(w.written)-1]; !bytes.Equal(got, c.request) {
					t.Errorf("not armed, the server gets %q, want %q", got, c.request)
				}
				expect(t, conn, c.server)
			})
		}
	}
}

// What the driver waits for is held back until the stamp has been read.
func TestReadyIsHeldUntilTheStampIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		conn := wrap(client)
		defer client.Close()
		go server.Write(greeted)
		greet(t, conn)
		conn.Arm(Query)
		go io.Copy(io.Discard, server)
		send(t, conn, simple)
		done := false
		go func() {
			expect(t, conn, backend(inserted, idle))
			done = true
		}()
		if _, err := server.Write(chain(backend(inserted, idle), answerLess("0/15"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if done {
			t.Error("the driver's call returns before the stamp's answer has ended")
		}
		if _, err := server.Write(backend(idle)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !done {
			t.Error("the driver's call does not return after the stamp's answer")
		}
		takes(t, conn, "0/15")
	})
}

// The statement's own answer has come: it has succeeded, whatever follows.
func TestConnectionBreaksBeforeTheStamp(t *testing.T) {
	ended := backend(inserted, idle)
	for _, c := range []struct {
		what  string
		reads []any
	}{
		{"at once", []any{ended, net.ErrClosed}},
		{"in the answer", []any{ended, answer("0/15")[:30], net.ErrClosed}},
		{"before the answer's end", []any{ended, answerLess("0/15"), net.ErrClosed}},
		{"with a last word", []any{ended, backend(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01"}), net.ErrClosed}},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := &wire{reads: append(append([]any{greeted}, c.reads...), net.ErrClosed)}
			conn := wrap(w)
			greet(t, conn)
			conn.Arm(Query)
			send(t, conn, simple)
			expect(t, conn, ended)
			takes(t, conn, "")
			expectError(t, conn, net.ErrClosed)
		})
	}
	t.Run("inside the statement's answer", func(t *testing.T) {
		conn := wrap(&wire{reads: []any{greeted, ended[:len(ended)-1], net.ErrClosed}})
		greet(t, conn)
		conn.Arm(Query)
		send(t, conn, simple)
		expect(t, conn, backend(inserted)) // of a ReadyForQuery nothing but the whole
		expectError(t, conn, net.ErrClosed)
		takes(t, conn, "")
	})
	// Of a request that holds the question, the driver is not told more than the
	// server said: without a ReadyForQuery it has not ended.
	t.Run("inside an answer that holds the stamp", func(t *testing.T) {
		whole := chain(bound, inlineAnswer("0/15"), readied)
		for cut := len(bound); cut < len(whole); cut++ {
			conn := wrap(&wire{reads: []any{greeted, whole[:cut], net.ErrClosed}})
			greet(t, conn)
			conn.Arm(Query)
			send(t, conn, chain(extended, synced))
			expect(t, conn, bound)
			expectError(t, conn, net.ErrClosed)
			takes(t, conn, "")
		}
	})
}

// A deadline that passes while the stamp is due ends the wait and not the
// connection: it goes back to the pool, and its next request must not be told.
func TestDeadlineBeforeTheStamp(t *testing.T) {
	ended := backend(inserted, idle)
	w := &wire{reads: []any{greeted, ended, answer("0/15")[:30], os.ErrDeadlineExceeded}}
	conn := wrap(w)
	greet(t, conn)
	conn.Arm(Query)
	send(t, conn, simple)
	expect(t, conn, ended)
	takes(t, conn, "")

	// The late answer is not mistaken for that of a request that is not stamped,
	w.reads = []any{chain(answer("0/15")[30:], ended)}
	send(t, conn, simple)
	expect(t, conn, ended)
	if got := w.written[len(w.written)-1]; !bytes.Equal(got, simple) {
		t.Errorf("not armed, the server gets %q", got)
	}
	// nor for that of one that is.
	conn.Arm(Query)
	w.reads = []any{ended, os.ErrDeadlineExceeded}
	send(t, conn, simple)
	expect(t, conn, ended)
	takes(t, conn, "")
	conn.Arm(Query)
	w.reads = []any{chain(answer("0/15"), ended, answer("0/99"))}
	send(t, conn, simple)
	expect(t, conn, ended)
	takes(t, conn, "0/99")
}

// A deadline that passes with nothing held is the driver's, once.
func TestDeadlineBeforeTheStatementsAnswer(t *testing.T) {
	w := &wire{reads: []any{greeted, os.ErrDeadlineExceeded, backend(inserted, idle), answer("0/15")}}
	conn := wrap(w)
	greet(t, conn)
	conn.Arm(Query)
	send(t, conn, simple)
	expectError(t, conn, os.ErrDeadlineExceeded)
	expect(t, conn, backend(inserted, idle))
	takes(t, conn, "0/15")
}

// A server refuses a COPY and is ready again before the driver says CopyDone,
// as drivers do then. The question that follows it is answered late.
func TestCopyRefusedBeforeItsData(t *testing.T) {
	refused := backend(refusal, idle)
	w := &wire{reads: []any{greeted, refused}}
	conn := wrap(w)
	greet(t, conn)
	conn.Arm(Copy)
	send(t, conn, simple) // stands for COPY ... FROM STDIN
	expect(t, conn, refused)
	send(t, conn, frontend(&pgproto3.CopyDone{}))
	takes(t, conn, "")

	w.reads = append(w.reads, chain(answer("0/15"), refused))
	send(t, conn, simple)
	expect(t, conn, refused)
	takes(t, conn, "")
}

// A request that goes out in parts is not stamped rather than wrongly.
func TestRequestInParts(t *testing.T) {
	for _, c := range conversations() {
		if c.sent == nil || c.want == "" || strings.HasPrefix(c.what, "two") {
			continue
		}
		if c.mode == 0 {
			c.mode = Query
		}
		stamped := 0
		for cut := 1; cut < len(c.request); cut++ {
			w := &wire{reads: []any{greeted}}
			conn := wrap(w)
			greet(t, conn)
			conn.Arm(c.mode)
			send(t, conn, c.request[:cut])
			send(t, conn, c.request[cut:])
			switch got := chain(w.written...); {
			case bytes.Equal(got, c.sent):
				stamped++
				w.reads = append(w.reads, c.server)
				expect(t, conn, c.driver)
				takes(t, conn, c.want)
			case bytes.Equal(got, chain(c.request, question)): // of a commit
				stamped++
				takes(t, conn, "")
			case bytes.Equal(got, c.request):
				takes(t, conn, "")
			default:
				t.Fatalf("%s, cut at %d: the server gets %q", c.what, cut, got)
			}
		}
		t.Logf("%s: %d of %d cuts are stamped all the same", c.what, stamped, len(c.request)-1)
	}
}

// Arm forgets the stamp before it.
func TestStampIsForOneRequest(t *testing.T) {
	w := &wire{reads: []any{greeted, chain(backend(inserted, idle), answer("0/15"))}}
	conn := wrap(w)
	greet(t, conn)
	takes(t, conn, "")
	conn.Arm(Query)
	takes(t, conn, "") // nothing was executed
	conn.Arm(Query)
	send(t, conn, simple)
	expect(t, conn, backend(inserted, idle))
	takes(t, conn, "0/15")
	conn.Arm(Query)
	takes(t, conn, "")
}

func TestWriteErrorIsPassedOn(t *testing.T) {
	client, server := net.Pipe()
	conn := wrap(client)
	go server.Write(greeted)
	greet(t, conn)
	conn.Arm(Query)
	server.Close()
	if n, err := conn.Write(simple); err == nil || n > len(simple) {
		t.Errorf("Write on a closed connection returns %d, %v", n, err)
	}
}

// Reader and writer run at the same time, as in a large batch. The server here
// answers each request by itself.
func TestReadAndWriteAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, server := net.Pipe()
	stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	defer stop()
	var done sync.WaitGroup
	defer done.Wait()
	defer client.Close()
	done.Go(func() {
		defer server.Close()
		if _, err := server.Write(greeted); err != nil {
			return
		}
		for b := pgproto3.NewBackend(server, server); ; {
			m, err := b.Receive()
			if err != nil {
				return
			}
			q, ok := m.(*pgproto3.Query)
			if !ok {
				continue
			}
			out := backend(notice, inserted, idle)
			if q.String == "select pg_current_wal_insert_lsn()" {
				out = answer("0/15")
			}
			if _, err := server.Write(out); err != nil {
				return
			}
		}
	})
	conn := wrap(client)
	greet(t, conn)
	for range 50 {
		conn.Arm(Query)
		const requests = 20
		done.Go(func() {
			for range requests {
				if _, err := conn.Write(simple); err != nil {
					return
				}
			}
		})
		expect(t, conn, bytes.Repeat(backend(notice, inserted, idle), requests))
		takes(t, conn, "0/15")
	}
}
