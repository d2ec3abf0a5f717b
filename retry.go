package pgtide

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// attempt is what there is to know of a failed attempt.
type attempt struct {
	write   bool // it may have written
	replica bool // it was made on a replica or a subscriber
	// subscriber says that it was the latter, which need not have what others have.
	subscriber bool
	connected  bool // it had a connection
	sent       bool // something may have reached the server
	broken     bool // the connection is gone
	handed     bool // a part of the result was handed out
}

// next is what to do after a failed attempt.
type next uint8

const (
	giveUp         next = iota // the error is the caller's
	elsewhere                  // the same on another node
	onPrimary                  // it is no read after all: on the primary
	outcomeUnknown             // a write whose fate nobody knows: never again
)

// verdict is what a failed attempt means.
type verdict struct {
	next    next
	suspect bool // the node may have changed: look at it now
	refused bool // the node did not want to write
	// conflict says that the replica cancelled the call because replaying the log
	// needed what it was reading.
	conflict bool
	lacks    bool // the subscriber lacks what the statement needs
	learn    bool // the statement is no read after all, whatever becomes of the call
}

// The SQLSTATEs that matter here, from appendix A of the PostgreSQL manual.
const (
	codeFeatureNotSupported   = "0A000"
	codeReadOnlyTransaction   = "25006"
	codeSerializationFailure  = "40001" // on a standby: cancelled by a conflict with recovery
	codeDeadlock              = "40P01" // on a standby also that
	codeInvalidSchema         = "3F000"
	codeInvalidText           = "22P02"
	codeObjectNotInState      = "55000" // "recovery is in progress"
	codeTooManyConnections    = "53300"
	codeAdminShutdown         = "57P01"
	codeCrashShutdown         = "57P02"
	codeCannotConnectNow      = "57P03"
	codeDatabaseDropped       = "57P04"
	codeIdleSessionTerminated = "57P05"
	codeNoDatabase            = "3D000"
)

// stalePlan is where a server finds that a migration has changed what a prepared
// statement returns. It says codeFeatureNotSupported of that.
const stalePlan = "RevalidateCachedQuery"

// judge is the table of what may be done again. A write that was sent and not
// answered is never sent twice; nothing is, once a row has been handed out.
func judge(ctxErr, err error, a attempt) verdict {
	var pg *pgconn.PgError
	answered := errors.As(err, &pg)
	switch {
	case ctxErr != nil:
		return verdict{}
	case !a.connected:
		return refusedConnection(pg, a)
	case fromPooler(pg):
		return pooler(pg, a)
	case !a.sent && (a.broken || pgconn.SafeToRetry(err)):
		return verdict{next: elsewhere, suspect: true}
	case a.handed && a.write && (a.broken || answered && down(pg.Code)):
		return verdict{next: outcomeUnknown, suspect: true}
	case a.handed:
		return verdict{suspect: a.broken, conflict: a.replica && answered && pg.Code == codeSerializationFailure, learn: a.replica && answered && pg.Code == codeReadOnlyTransaction}
	case answered:
		return answer(pg, a)
	case !a.broken:
		return verdict{} // the driver's own error: an argument it could not encode
	case a.write:
		return verdict{next: outcomeUnknown, suspect: true}
	}
	return verdict{next: elsewhere, suspect: true}
}

// refusedConnection judges a connection that could not be had. The reasons that a primary
// gives for it, other than being down, are the caller's to know.
func refusedConnection(pg *pgconn.PgError, a attempt) verdict {
	if pg == nil || down(pg.Code) || unserved(pg) || says(pg, poolerLost) {
		return verdict{next: elsewhere, suspect: true}
	}
	if a.replica {
		return verdict{next: elsewhere, suspect: pg.Code != codeTooManyConnections}
	}
	return verdict{}
}

func down(code string) bool {
	switch code {
	case codeAdminShutdown, codeCrashShutdown, codeCannotConnectNow, codeIdleSessionTerminated:
		return true
	}
	return false
}

// answer judges an error that the server itself reported.
func answer(pg *pgconn.PgError, a attempt) verdict {
	switch pg.Code {
	case codeReadOnlyTransaction:
		if a.write && !a.replica {
			return verdict{next: elsewhere, suspect: true, refused: true}
		}
		if a.replica {
			return verdict{next: onPrimary, learn: true}
		}
		return verdict{suspect: true}
	case codeFeatureNotSupported, codeObjectNotInState:
		switch {
		case a.replica && pg.Routine == stalePlan:
			return verdict{next: elsewhere}
		case a.replica:
			return verdict{next: onPrimary} // what it was shows when the primary can
		}
		return verdict{suspect: true}
	case codeSerializationFailure, codeDeadlock, codeDatabaseDropped:
		if a.replica {
			return verdict{next: elsewhere, conflict: pg.Code != codeDatabaseDropped}
		}
	}
	if down(pg.Code) {
		if a.write {
			return verdict{next: outcomeUnknown, suspect: true}
		}
		return verdict{next: elsewhere, suspect: true}
	}
	if a.subscriber && !a.write && lacking(pg.Code) {
		return verdict{next: elsewhere, lacks: true}
	}
	return verdict{}
}

// lacking reports whether an error may come from what one server has and another
// has not: a table, a column, a function, a right to it, a label of an enumeration.
func lacking(code string) bool {
	return strings.HasPrefix(code, "42") || code == codeInvalidSchema || code == codeInvalidText
}
