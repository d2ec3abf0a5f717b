package pgtidetest

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// between are the functions through which a call gets from the program to a
// server: the line that made it is further out.
var between = []string{
	"github.com/pgtide/pgtide.",
	"github.com/pgtide/pgtide/pgtidesql.",
	"github.com/pgtide/pgtide/pgtidetest.",
	"github.com/pgtide/pgtide/internal/",
	"github.com/jackc/",
	"database/sql.",
	"sync.",
	"context.",
}

// outside are those that have no line of the program further out that made the
// call, only one that will run it.
var outside = []string{"runtime.", "testing.", "net/http."}

// caller returns file:line of the statement in the program that made the call on
// this goroutine, past libraries such as an ORM; empty if the program made none,
// as for a probe.
func caller() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	library := ""
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "" || hasAnyPrefix(f.Function, between):
		case hasAnyPrefix(f.Function, outside):
			return library
		case !strings.Contains(filepath.ToSlash(f.File), "/pkg/mod/") && !strings.Contains(filepath.ToSlash(f.File), "/vendor/"):
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		case library == "":
			library = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		if !more {
			return library
		}
	}
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
