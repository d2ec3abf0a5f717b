package stamp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// wire is a connection whose other end is a list of what is read from it: bytes
// or an error, one for each read. After the list it is closed.
type wire struct {
	net.Conn
	reads   []any
	written [][]byte // one for each write
}

func (w *wire) Write(b []byte) (int, error) {
	w.written = append(w.written, bytes.Clone(b))
	return len(b), nil
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.reads) > 0 {
		next := w.reads[0]
		if err, ok := next.(error); ok {
			w.reads = w.reads[1:]
			return 0, err
		}
		n := copy(p, next.([]byte))
		if n == len(next.([]byte)) {
			w.reads = w.reads[1:]
		} else {
			w.reads[0] = next.([]byte)[n:]
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func wrap(c io.ReadWriter) *Conn { return New(c, c) }

// choppy is a connection that reads one to max bytes at a time.
type choppy struct {
	net.Conn
	rng *rand.Rand
	max int
}

func (c *choppy) Read(p []byte) (int, error) {
	return c.Conn.Read(p[:min(len(p), 1+c.rng.IntN(c.max))])
}

// backend returns messages as the server sends them.
func backend(messages ...pgproto3.BackendMessage) []byte {
	var b []byte
	for _, m := range messages {
		b = must(m.Encode(b))
	}
	return b
}

// frontend returns messages as a driver sends them.
func frontend(messages ...pgproto3.FrontendMessage) []byte {
	var b []byte
	for _, m := range messages {
		b = must(m.Encode(b))
	}
	return b
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func chain(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// The messages of most conversations here.
var (
	idle     = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failed   = &pgproto3.ReadyForQuery{TxStatus: 'E'}
	inserted = &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}
	refusal  = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "23505", Message: "duplicate key"}
	notice   = &pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "by the way"}
	setting  = &pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}
	notified = &pgproto3.NotificationResponse{PID: 7, Channel: "news", Payload: "none"}

	simple   = frontend(&pgproto3.Query{String: "insert into t values (1)"})
	extended = frontend(&pgproto3.Bind{PreparedStatement: "s"}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{})
	synced   = frontend(&pgproto3.Sync{})
	prepare  = frontend(&pgproto3.Parse{Query: "insert into t values (1)"}, &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Sync{})

	bound   = backend(&pgproto3.BindComplete{}, &pgproto3.NoData{}, inserted)
	readied = backend(idle)
	greeted = backend(&pgproto3.AuthenticationOk{}, setting, idle)
)

// row is a DataRow of one column.
func row(text string) *pgproto3.DataRow { return &pgproto3.DataRow{Values: [][]byte{[]byte(text)}} }

// answer is a server's whole answer to the question.
func answer(lsn string) []byte { return chain(answerLess(lsn), backend(idle)) }

func answerLess(lsn string) []byte {
	return backend(
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("pg_current_wal_insert_lsn"), DataTypeOID: 3220}}},
		row(lsn),
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
}

// inlineAnswer is its answer to the question inside a request.
func inlineAnswer(lsn string) []byte {
	return chain(blockAnswer, backend(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{},
		row(lsn), &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}))
}

// blockAnswer is what it says to the BEGIN and the COMMIT.
var blockAnswer = backend(
	&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CommandComplete{CommandTag: []byte("BEGIN")},
	&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CommandComplete{CommandTag: []byte("COMMIT")})

// greet reads a server's greeting, after which a connection is idle.
func greet(t *testing.T, c *Conn) {
	t.Helper()
	expect(t, c, greeted)
}

// expect reads what the driver must get next.
func expect(t *testing.T, c io.ReadWriter, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the driver reads %q, %v\nwant %q", got[:n], err, want)
	}
}

// expectError reads what must be an error and nothing else.
func expectError(t *testing.T, c io.ReadWriter, want error) {
	t.Helper()
	p := make([]byte, 100)
	if n, err := c.Read(p); n != 0 || !errors.Is(err, want) {
		t.Fatalf("the driver reads %q, %v, want error %v", p[:n], err, want)
	}
}

func send(t *testing.T, c io.ReadWriter, b []byte) {
	t.Helper()
	if n, err := c.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write of %d bytes returns %d, %v", len(b), n, err)
	}
}

func takes(t *testing.T, c *Conn, want string) {
	t.Helper()
	lsn, ok := c.Take()
	if ok != (want != "") || ok && lsn != want {
		t.Errorf("Take() = %q, %v, want %q", lsn, ok, want)
	}
}
