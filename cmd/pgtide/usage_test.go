package main

import (
	"strings"
	"testing"
)

func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args string
		want []string // in the error or its hint
	}{
		{"lba", []string{`unknown command "lba"`, `did you mean "lab"?`, "pgtide --help"}},
		{"nonsense", []string{`unknown command "nonsense" for "pgtide"`, "pgtide --help"}},
		{"help lab nonsense", []string{`unknown command "nonsense" for "pgtide lab"`}},
		{"lab stat --json", []string{`unknown command "stat" for "pgtide lab"`, `"status"`, "pgtide lab --help"}},
		{"lab --jsn", []string{"unknown option --jsn"}},
		{"lab up --replcas 3", []string{"unknown option --replcas: did you mean --replicas?", "pgtide lab up --help"}},
		{"lab up --nonsense", []string{"unknown option --nonsense", "pgtide lab up --help"}},
		{"lab up -z", []string{"unknown option -z"}},
		{"lab up --replicas many", []string{`--replicas takes a whole number, not "many"`}},
		{"lab up --replicas -1", []string{"--replicas takes a whole number from 0 on, not -1"}},
		{"lab up --replicas", []string{"--replicas needs a whole number"}},
		{"lab up --set fsync", []string{`--set takes name=value, not "fsync"`}},
		{"lab up --timeout 3x", []string{`--timeout takes a duration such as 500ms or 3s, not "3x"`}},
		{"lab up --timeout 0s", []string{"--timeout takes a duration above 0, not 0s"}},
		{"lab up here", []string{`unexpected argument "here"`}},
		{"lab status --json=perhaps", []string{`--json takes true or false, not "perhaps"`}},
		{"lab status --cluster ../escape", []string{`"../escape" cannot be the name of a cluster`, "letters"}},
		{"lab status --cluster a --dir b", []string{"--cluster and --dir both say which cluster"}},
		{"lab delay 3x", []string{`"3x" is not a delay`, "such as 500"}},
		{"lab delay 500us", []string{`"500us" is not a delay`, "whole milliseconds"}},
		{"lab delay 99999999999", []string{`"99999999999" is not a delay`, "2147483647"}},
		{"lab delay -5", []string{"-5 is below zero"}},
		{"lab delay 5 node2 6", []string{`"6" is a second delay`}},
		{"lab delay --timeout -1s 5", []string{"--timeout takes a duration above 0"}},
		{"lab kill", []string{"which node?", "pgtide lab kill node2"}},
		{"lab promote", []string{"promote one node", "pgtide lab promote node2"}},
		{"lab promote node2 node3", []string{"promote one node"}},
		{"lab psql node1 node2", []string{`unexpected argument "node2"`, "follows --"}},
		{"lab lag --count -1", []string{"--count takes a whole number from 0 on, not -1"}},
		{"lab lag --interval 1ms", []string{"--interval takes a duration from 10ms on, not 1ms"}},
		{"lab lag --patience 0s", []string{"--patience takes a duration above 0, not 0s"}},
	} {
		got := pgtide(t, strings.Fields(test.args)...)
		if got.code != exitUsage || got.out != "" {
			t.Errorf("pgtide %s: got exit code %d and output %q, want %d and none", test.args, got.code, got.out, exitUsage)
		}
		if !strings.HasPrefix(got.err, "pgtide: ") {
			t.Errorf("pgtide %s: got %q, want it to begin with pgtide:", test.args, got.err)
		}
		for _, want := range test.want {
			if !strings.Contains(got.err, want) {
				t.Errorf("pgtide %s: got %q, want %q in it", test.args, got.err, want)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"up", "down", "status", "delay", "start", "lab"}
	for word, want := range map[string]string{
		"statsu": "status", "st": "status", "dwon": "down", "delya": "delay", "lba": "lab",
		"ups": "up", "x": "", "zz": "", "": "", "promote": "",
	} {
		if got := nearest(word, candidates); got != want {
			t.Errorf("nearest to %q: got %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1},
		{"kitten", "sitting", 3}, {"replcas", "replicas", 1}, {"lba", "lab", 2},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance of %q and %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
