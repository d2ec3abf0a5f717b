package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestExitCode(t *testing.T) {
	plain := errors.New("node2 is gone")
	for _, test := range []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{plain, 1, "pgtide: node2 is gone\n"},
		{withHint(plain, "start %s", "it"), 1, "pgtide: node2 is gone\nhint: start it\n"},
		{fmt.Errorf("stop: %w", withHint(plain, "start it")), 1, "pgtide: stop: node2 is gone\nhint: start it\n"},
		{&usageError{plain}, 2, "pgtide: node2 is gone\n"},
		{withHint(&usageError{plain}, "read it"), 2, "pgtide: node2 is gone\nhint: read it\n"},
		{&statusError{3}, 3, ""},
	} {
		var out, errs bytes.Buffer
		code := exitCode(streams{out: &out, err: &errs}, test.err)
		if code != test.code || errs.String() != test.want || out.Len() > 0 {
			t.Errorf("%v: got code %d, %q and output %q, want %d, %q and none", test.err, code, &errs, &out, test.code, test.want)
		}
	}
	if err := withHint(nil, "nothing"); err != nil {
		t.Errorf("a hint without an error: got %v, want nil", err)
	}
}
