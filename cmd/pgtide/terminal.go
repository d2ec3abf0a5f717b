package main

// The rules of the terminal:
//
//   - What was asked for goes to standard output, so that it can be piped;
//     progress, hints and errors go to standard error.
//   - With --json standard output holds JSON alone, with snake_case keys.
//   - Messages are lower case, without a full stop. An error is one line that
//     begins with "pgtide: " and is followed by a line "hint: " if there is
//     something to be done that the error does not say itself.
//   - What takes more than a moment says so before it begins.
//   - There are no colours and nothing is drawn over, on a terminal or off it:
//     NO_COLOR is honoured by having nothing to turn off.
//   - Passwords are shown by lab env and by lab psql without a psql, which are
//     asked for them, and by nothing else.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The exit codes.
const (
	exitFailure = 1 // the command line was understood, but something went wrong
	exitUsage   = 2 // the command line was not understood
)

// streams are what a command reads from and writes to.
type streams struct {
	in  io.Reader
	out io.Writer // results
	err io.Writer // progress, hints and errors
}

// progress prints a line about what is being done.
func (s streams) progress(format string, args ...any) {
	fmt.Fprintf(s.err, format+"\n", args...)
}

// hint prints what could be done next.
func (s streams) hint(format string, args ...any) {
	fmt.Fprintf(s.err, "hint: "+format+"\n", args...)
}

// printJSON prints one indented value.
func (s streams) printJSON(value any) error {
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false) // connection URLs are meant to be read
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}

// hintError is an error whose mend is another command.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint adds a hint line to an error.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// usageError says that the command line was not understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// statusError ends the command with the status of a program it ran, which has
// said itself what was wrong.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// exitCode reports the error, if there is one, and returns what main exits with.
func exitCode(s streams, err error) int {
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.code
	}
	fmt.Fprintf(s.err, "pgtide: %v\n", err)
	if hinted, ok := errors.AsType[*hintError](err); ok {
		s.hint("%s", hinted.hint)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}
