package main

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

// stage is a test outside of go test: what pgtidetest asks of one.
type stage struct {
	testing.TB // not called

	context  context.Context
	failed   error
	cleanups []func()
}

// asTest runs f as a test, with its cleanups.
func asTest(ctx context.Context, f func(*stage) error) error {
	t := &stage{context: ctx}
	var err error
	finished := make(chan struct{})
	go func() { // Fatalf ends its goroutine
		defer close(finished)
		defer func() {
			for len(t.cleanups) > 0 {
				last := t.cleanups[len(t.cleanups)-1]
				t.cleanups = t.cleanups[:len(t.cleanups)-1]
				last()
			}
		}()
		err = f(t)
	}()
	<-finished
	if t.failed != nil {
		return t.failed
	}
	return err
}

func (t *stage) Name() string             { return "bench" }
func (t *stage) Helper()                  {}
func (t *stage) Context() context.Context { return t.context }
func (t *stage) Cleanup(f func())         { t.cleanups = append(t.cleanups, f) }
func (t *stage) Failed() bool             { return t.failed != nil }
func (t *stage) Log(...any)               {}
func (t *stage) Logf(string, ...any)      {}

func (t *stage) Errorf(format string, args ...any) { t.failed = fmt.Errorf(format, args...) }

func (t *stage) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}
