package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
)

// The suite in its shortest form: its times mean nothing, its round trips do.
func TestHTTPSuite(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"-suite", "http", "-rounds", "1", "-json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	trips := 0
	for _, s := range r.Results {
		switch s.Unit {
		case "trips":
			trips++
			if s.Ours != s.Budget { // fewer would say that something is not counted
				t.Errorf("%s: %v, want %v", s.Name, s.Ours, s.Budget)
			}
		case "req/s":
			if s.Ours <= 0 || s.Theirs <= 0 {
				t.Errorf("%s: %v and %v", s.Name, s.Ours, s.Theirs)
			}
		}
	}
	if trips == 0 {
		t.Error("no round trips were counted")
	}
}

func TestQuestionsAreCounted(t *testing.T) {
	message := func(kind byte, body string) string {
		return string(kind) + string([]byte{0, 0, 0, byte(4 + len(body))}) + body
	}
	for _, tt := range []struct {
		sent string
		want int64
	}{
		{"", 0},
		{message('Q', "select 'S'\x00"), 1},
		{message('B', "SSSSS") + message('E', "Q") + message('S', ""), 1},
		{message('B', "") + message('S', "") + message('B', "") + message('S', ""), 2},
		{message('H', ""), 0}, // Flush asks for what it will not wait for
		{message('Q', "cut off")[:8], 1},
	} {
		if got := asked([]byte(tt.sent)); got != tt.want {
			t.Errorf("%q holds %d questions, want %d", strings.ToValidUTF8(tt.sent, "?"), got, tt.want)
		}
	}
}
