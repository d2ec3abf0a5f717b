package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSplitDelay(t *testing.T) {
	for _, test := range []struct {
		args  string
		want  time.Duration
		names []string
	}{
		{"", 3 * time.Second, nil},
		{"node2", 3 * time.Second, []string{"node2"}},
		{"0", 0, nil},
		{"500", 500 * time.Millisecond, nil},
		{"500ms", 500 * time.Millisecond, nil},
		{"1.5s node2 node3", 1500 * time.Millisecond, []string{"node2", "node3"}},
		{"node2 2m", 2 * time.Minute, []string{"node2"}},
		{"2147483647", maxDelay, nil},
	} {
		d, names, err := splitDelay(strings.Fields(test.args))
		if err != nil || d != test.want || !slices.Equal(names, test.names) {
			t.Errorf("%q: got %s, %v, %v, want %s, %v", test.args, d, names, err, test.want, test.names)
		}
	}
	for _, args := range [][]string{{"3x"}, {"2147483648"}, {"600h"}, {"-1s"}, {"1.5ms"}, {""}, {"5", "6"}, {"1e3"}, {"0x10"}} {
		if d, names, err := splitDelay(args); err == nil {
			t.Errorf("%q: got %s, %v, want an error", args, d, names)
		}
	}
}
