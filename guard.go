package pgtide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/pgtide/pgtide/internal/route"
)

// Guard says what becomes of a write where none is expected.
type Guard uint8

const (
	GuardOff   Guard = iota // nothing: it is as good as anywhere
	GuardLog                // it is done, and told to [Hooks.OnGuard]
	GuardError              // it is told, and refused with a [WriteGuardError]
)

// ErrWriteNotAllowed: a [Guard] refused the call. The error that wraps it is a
// [*WriteGuardError].
var ErrWriteNotAllowed = errors.New("write is not allowed here")

// WriteGuardError tells what a [Guard] has met. It matches [ErrWriteNotAllowed].
type WriteGuardError struct {
	// What is the keyword or function that makes the statement a write, or
	// "read at the primary".
	What string
	// Caller is where the program made the call, as file:line: the first frame
	// outside pgtide, pgx and database/sql.
	Caller string
}

func (e *WriteGuardError) Error() string {
	return fmt.Sprintf("%v: %s at %s: do it within pgtide.AllowWrites", ErrWriteNotAllowed, e.What, e.Caller)
}

// Is reports whether target is [ErrWriteNotAllowed].
func (e *WriteGuardError) Is(target error) bool { return target == ErrWriteNotAllowed }

// ReadOnly returns a context in which a write is unexpected: g says what becomes
// of one, whatever [Options.Guard] says. What is not refused goes to the primary
// and is seen by the session's later reads. A statement counts as a write if it is
// not surely a read, but for those that only act on the server session, such as
// SET LOCAL. A function of yours that writes is found out by a replica's
// refusal, so not when the call goes to the primary.
func ReadOnly(ctx context.Context, g Guard) context.Context {
	return withScope(ctx, func(s *scope) { s.guarded, s.guard = true, g })
}

// AllowWrites returns a context in which writes are expected, inside one made by
// [ReadOnly] or under [Options.Guard].
func AllowWrites(ctx context.Context) context.Context { return ReadOnly(ctx, GuardOff) }

// guardOf is what ctx says of writes, or else the DB's options.
func (db *DB) guardOf(s *scope) Guard {
	if s.guarded {
		return s.guard
	}
	return db.options.Guard
}

// isWrite reports whether a statement with this reason counts as a write.
func isWrite(why route.Reason) bool {
	return why == route.Write || why == route.Unclassified || why == route.Refused
}

// guard is asked before a call is sent. why is what the statement is.
func (db *DB) guard(ctx context.Context, g Guard, why route.Reason, what string) error {
	if g == GuardOff || !isWrite(why) {
		return nil
	}
	if what == "" {
		what = why.String()
	}
	return db.met(ctx, g, what)
}

// guardRead is asked before a call goes to the primary.
func (c *call) guardRead(ctx context.Context) error {
	if c.allowed == GuardOff || !c.db.options.GuardReads {
		return nil
	}
	switch c.reason {
	case route.Forced, route.Strong, route.Transaction:
		return c.db.met(ctx, c.allowed, "read at the primary")
	}
	return nil
}

// met tells of a call that the guard does not want, and returns what it gets.
func (db *DB) met(ctx context.Context, g Guard, what string) error {
	err := &WriteGuardError{What: what, Caller: caller()}
	db.stat.guarded.Add(1)
	if f := db.options.Hooks.OnGuard; f != nil {
		f(ctx, err)
	} else if g == GuardLog {
		slog.WarnContext(ctx, "pgtide: a write where none is expected", "what", err.What, "caller", err.Caller)
	}
	if g == GuardError {
		return err
	}
	return nil
}

// between are the packages between a program and its call.
var between = []string{"github.com/pgtide/pgtide.", "github.com/pgtide/pgtide/", "github.com/jackc/pgx/", "database/sql."}

// caller returns where the program made the call under way.
func caller() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		inside := false
		for _, prefix := range between {
			inside = inside || strings.HasPrefix(f.Function, prefix)
		}
		if !inside && f.File != "" {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}
