package lab

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Errors a caller may want to tell apart, found with [errors.Is]. Every one
// arrives wrapped in text that names the node or folder and what to do.
var (
	// ErrUnsupported: the lab cannot run servers on this operating system.
	ErrUnsupported = errors.New("the lab needs Linux or macOS")
	// ErrNoPostgres: no usable initdb and postgres were found.
	ErrNoPostgres = errors.New("no PostgreSQL server binaries found")
	// ErrWrongVersion: the folder belongs to another major version.
	ErrWrongVersion = errors.New("another version of PostgreSQL")
	// ErrFolderInUse: a living process owns the cluster in the folder.
	ErrFolderInUse = errors.New("folder is in use")
	// ErrForeignFolder: the folder holds something the lab did not make.
	ErrForeignFolder = errors.New("not a lab folder")
	// ErrPortTaken: another program listens on a node's port.
	ErrPortTaken = errors.New("port is taken")
	// ErrDiskFull: the disk has no room left.
	ErrDiskFull = errors.New("disk is full")
	// ErrClosed: the cluster handle was closed or detached.
	ErrClosed = errors.New("cluster is closed")
)

const logTailLines = 10

// logError is an operation's failure together with what the server said.
type logError struct {
	err  error
	tail []string
}

func (e *logError) Error() string {
	if len(e.tail) == 0 {
		return e.err.Error() + "; its log is empty"
	}
	return e.err.Error() + "; last log lines:\n\t" + strings.Join(e.tail, "\n\t")
}

func (e *logError) Unwrap() error { return e.err }

// withLog attaches log lines to err, and the sentinel the lines give away.
func withLog(err error, lines []string) error {
	if err == nil {
		return nil
	}
	if len(lines) > logTailLines {
		lines = lines[len(lines)-logTailLines:]
	}
	if cause := causeInLog(lines); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &logError{err: err, tail: lines}
}

// causeInLog recognises the causes that have a plain name. The servers run
// with untranslated messages, so the text is stable.
func causeInLog(lines []string) error {
	for _, line := range lines {
		switch {
		case strings.Contains(line, "No space left on device"),
			strings.Contains(line, "Disk quota exceeded"):
			return ErrDiskFull
		case strings.Contains(line, "Address already in use"):
			return ErrPortTaken
		}
	}
	return nil
}

// nameDiskFull marks errors of our own file operations.
func nameDiskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
