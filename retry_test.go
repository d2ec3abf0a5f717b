package pgtide

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// unsentError is a failure of which the driver knows that nothing reached the
// server.
type unsentError struct{}

func (unsentError) Error() string     { return "nothing was sent" }
func (unsentError) SafeToRetry() bool { return true }

func serverSays(code string) error {
	return fmt.Errorf("exec: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "no"})
}

// TestRetryTable is the table of what may be done again, row by row: how an
// attempt failed, and what then happens to a read and to a write.
func TestRetryTable(t *testing.T) {
	const (
		replica = iota
		primary
	)
	broken := io.ErrUnexpectedEOF
	for _, row := range []struct {
		how     string
		err     error
		node    int
		a       attempt // write and replica are filled in
		read    next
		write   next
		suspect bool
	}{
		// Never sent.
		{how: "no connection to a replica", err: errors.New("dial"), node: replica, read: elsewhere, write: elsewhere, suspect: true},
		{how: "no connection to the primary", err: errors.New("dial"), node: primary, read: elsewhere, write: elsewhere, suspect: true},
		{how: "the primary is starting up", err: serverSays(codeCannotConnectNow), node: primary, read: elsewhere, write: elsewhere, suspect: true},
		{how: "the primary is shutting down", err: serverSays(codeAdminShutdown), node: primary, read: elsewhere, write: elsewhere, suspect: true},
		{how: "a replica has no connection to spare", err: serverSays(codeTooManyConnections), node: replica, read: elsewhere, write: elsewhere},
		{how: "a replica knows no such user", err: serverSays("28P01"), node: replica, read: elsewhere, write: elsewhere, suspect: true},
		{how: "the primary has no connection to spare", err: serverSays(codeTooManyConnections), node: primary, read: giveUp, write: giveUp},
		{how: "the primary knows no such user", err: serverSays("28P01"), node: primary, read: giveUp, write: giveUp},
		{how: "nothing was sent to a replica", err: unsentError{}, node: replica, a: attempt{connected: true}, read: elsewhere, write: elsewhere, suspect: true},
		{how: "nothing was sent to the primary", err: unsentError{}, node: primary, a: attempt{connected: true}, read: elsewhere, write: elsewhere, suspect: true},
		{how: "nothing was sent on a connection that broke", err: broken, node: primary, a: attempt{connected: true, broken: true}, read: elsewhere, write: elsewhere, suspect: true},
		{how: "an argument that could not be encoded, with nothing sent", err: errors.New("encode"), node: primary, a: attempt{connected: true}, read: giveUp, write: giveUp},
		// pgx says of a simple query that was sent that it is safe to retry.
		{how: "the driver says that nothing was sent, and it was", err: unsentError{}, node: primary, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},

		// A node that does not want to write.
		{how: "a replica refuses to write", err: serverSays(codeReadOnlyTransaction), node: replica, a: attempt{connected: true, sent: true}, read: onPrimary, write: onPrimary},
		{how: "a replica cannot do it", err: serverSays(codeFeatureNotSupported), node: replica, a: attempt{connected: true, sent: true}, read: onPrimary, write: onPrimary},
		{how: "a replica is in recovery", err: serverSays(codeObjectNotInState), node: replica, a: attempt{connected: true, sent: true}, read: onPrimary, write: onPrimary},
		{how: "the primary cannot do it", err: serverSays(codeFeatureNotSupported), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp, suspect: true},

		// The server answered.
		{how: "a constraint", err: serverSays("23505"), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "a constraint on a replica", err: serverSays("22012"), node: replica, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "a serialization failure", err: serverSays(codeSerializationFailure), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "a deadlock", err: serverSays(codeDeadlock), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "the statement was cancelled", err: serverSays("57014"), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "the driver could not encode an argument", err: errors.New("encode"), node: primary, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},
		{how: "the driver could not encode an argument for a replica", err: errors.New("encode"), node: replica, a: attempt{connected: true, sent: true}, read: giveUp, write: giveUp},

		// Conflicts with recovery, and no definite answer.
		{how: "a conflict with recovery", err: serverSays(codeSerializationFailure), node: replica, a: attempt{connected: true, sent: true}, read: elsewhere, write: elsewhere},
		{how: "a conflict with recovery, as a deadlock", err: serverSays(codeDeadlock), node: replica, a: attempt{connected: true, sent: true}, read: elsewhere, write: elsewhere},
		{how: "a conflict with recovery, as a dropped database", err: serverSays(codeDatabaseDropped), node: replica, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: elsewhere},
		{how: "the primary was shut down", err: serverSays(codeAdminShutdown), node: primary, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},
		{how: "the primary crashed", err: serverSays(codeCrashShutdown), node: primary, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},
		{how: "the primary cannot be used now", err: serverSays(codeCannotConnectNow), node: primary, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},
		{how: "a replica was shut down", err: serverSays(codeAdminShutdown), node: replica, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},
		{how: "the connection broke", err: broken, node: primary, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},
		{how: "the connection to a replica broke", err: broken, node: replica, a: attempt{connected: true, sent: true, broken: true}, read: elsewhere, write: outcomeUnknown, suspect: true},

		// A row was handed out.
		{how: "broken after a row", err: broken, node: primary, a: attempt{connected: true, sent: true, broken: true, handed: true}, read: giveUp, write: outcomeUnknown, suspect: true},
		{how: "shut down after a row", err: serverSays(codeAdminShutdown), node: primary, a: attempt{connected: true, sent: true, broken: true, handed: true}, read: giveUp, write: outcomeUnknown, suspect: true},
		{how: "an error after a row", err: serverSays("22012"), node: primary, a: attempt{connected: true, sent: true, handed: true}, read: giveUp, write: giveUp},
		{how: "a conflict with recovery after a row", err: serverSays(codeSerializationFailure), node: replica, a: attempt{connected: true, sent: true, handed: true}, read: giveUp, write: giveUp},
		{how: "a refusal after a row", err: serverSays(codeReadOnlyTransaction), node: replica, a: attempt{connected: true, sent: true, handed: true}, read: giveUp, write: giveUp},
	} {
		for _, write := range []bool{false, true} {
			a, want := row.a, row.read
			if a.write, a.replica = write, row.node == replica; write {
				want = row.write
			}
			got := judge(nil, row.err, a)
			if got.next != want || row.suspect && !got.suspect {
				t.Errorf("%s (write: %v): %+v, want next %d and suspect %v", row.how, write, got, want, row.suspect)
			}
			if !row.suspect && got.suspect {
				t.Errorf("%s (write: %v) is held against the node", row.how, write)
			}
			// Whatever it was, a caller who has gone gets the error and the node no blame.
			for _, gone := range []error{context.Canceled, context.DeadlineExceeded} {
				if got := judge(gone, row.err, a); got != (verdict{}) {
					t.Errorf("%s (write: %v) after the caller's context ended: %+v, want to give up", row.how, write, got)
				}
			}
		}
	}
}

// A primary that refuses to write may have become a replica, or be one by
// configuration: the first is worth another look, the second an error.
func TestPrimaryThatRefusesToWrite(t *testing.T) {
	got := judge(nil, serverSays(codeReadOnlyTransaction), attempt{write: true, connected: true, sent: true})
	if want := (verdict{next: elsewhere, suspect: true, refused: true}); got != want {
		t.Errorf("a write: %+v, want %+v", got, want)
	}
}

// A write that was sent is never sent again, unless a node has said that it
// did nothing.
func TestNoWriteIsSentTwice(t *testing.T) {
	codes := []string{"", "00000", "08006", "0A000", "22012", "23505", "25006", "40001", "40P01", "53300", "55000",
		"57014", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "XX000"}
	for _, code := range codes {
		for bits := range 8 {
			a := attempt{write: true, connected: true, sent: true, replica: bits&1 != 0, broken: bits&2 != 0, handed: bits&4 != 0}
			err := serverSays(code)
			if code == "" {
				err = io.ErrUnexpectedEOF
			}
			v := judge(nil, err, a)
			again := v.next == elsewhere || v.next == onPrimary
			did := code == "25006" || a.replica && (code == "0A000" || code == "55000" || code == "40001" || code == "40P01" || code == "57P04")
			if again && (!did || a.handed) {
				t.Errorf("code %q, %+v: %+v: the write is sent again", code, a, v)
			}
		}
	}
}
