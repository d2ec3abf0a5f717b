package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// clusterParent is a folder that the servers' user may enter, which the test's
// own temporary folder is not if root runs the test.
func clusterParent(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtide-command-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// session is a terminal in which lab commands work on one cluster.
type session struct {
	*testing.T
	flags []string // which cluster
	said  string   // everything but what lab env printed
}

func (s *session) run(args ...string) result {
	s.Helper()
	got := pgtide(s.T, append(append([]string{"lab", args[0]}, s.flags...), args[1:]...)...)
	s.said += got.err
	if args[0] != "env" {
		s.said += got.out
	}
	return got
}

// downAfterwards ends the servers with the test: nothing else would.
func (s *session) downAfterwards() {
	s.Cleanup(func() {
		got := s.run("down", "--delete")
		if got.code != 0 && !strings.Contains(got.err, "there is no") {
			s.Errorf("down after the test: got %+v", got)
		}
	})
}

// must runs a command that has to succeed and returns its output.
func (s *session) must(args ...string) string {
	s.Helper()
	got := s.run(args...)
	if got.code != 0 {
		s.Fatalf("lab %s: got exit code %d: %s", strings.Join(args, " "), got.code, got.err)
	}
	return got.out
}

// refused runs a command that has to fail, with all the words in its error.
func (s *session) refused(words []string, args ...string) {
	s.Helper()
	got := s.run(args...)
	if got.code != exitFailure {
		s.Errorf("lab %s: got exit code %d, want %d", strings.Join(args, " "), got.code, exitFailure)
	}
	for _, word := range words {
		if !strings.Contains(got.err, word) {
			s.Errorf("lab %s: got %q, want %q in it", strings.Join(args, " "), got.err, word)
		}
	}
}

func (s *session) status() map[string]lab.NodeStatus {
	s.Helper()
	var status statusJSON
	s.decode(s.must("status", "--json"), &status)
	nodes := make(map[string]lab.NodeStatus)
	for _, n := range status.Nodes {
		nodes[n.Name] = n
	}
	return nodes
}

func (s *session) decode(text string, into any) {
	s.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.Fatalf("decode %q: %v", text, err)
	}
}

// lagMS measures some rows and returns, for each, the milliseconds after which
// each replica showed it; a replica that did not is missing.
func (s *session) lagMS(args ...string) []map[string]float64 {
	s.Helper()
	var rows []map[string]float64
	for line := range strings.Lines(s.must(append([]string{"lag", "--json", "--interval", "50ms"}, args...)...)) {
		var row struct {
			Row      int
			Replicas map[string]struct {
				AfterMS *float64 `json:"after_ms"`
				Error   string
			}
		}
		s.decode(line, &row)
		if row.Row != len(rows)+1 {
			s.Errorf("got row %d, want %d", row.Row, len(rows)+1)
		}
		after := make(map[string]float64)
		for name, sight := range row.Replicas {
			switch {
			case sight.AfterMS != nil:
				after[name] = *sight.AfterMS
			case sight.Error == "":
				s.Errorf("row %d is neither seen on %s nor is there a reason", row.Row, name)
			}
		}
		rows = append(rows, after)
	}
	return rows
}

// ask runs one query on a connection URL.
func (s *session) ask(dsn, query string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(ctx)
	var answer string
	if err := conn.QueryRow(ctx, query).Scan(&answer); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return answer
}

func (s *session) env(args ...string) map[string]string {
	s.Helper()
	var vars map[string]string
	s.decode(s.must(append([]string{"env", "--json"}, args...)...), &vars)
	return vars
}

// TestLab is one evening with a named cluster, each command a call of its own
// that knows nothing of the one before.
func TestLab(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", clusterParent(t))
	s := &session{T: t, flags: []string{"--cluster", "evening"}}
	s.refused([]string{"there is no cluster evening", "pgtide lab up --cluster evening"}, "status")
	s.refused([]string{"there is no cluster evening"}, "down", "--delete")
	s.downAfterwards()

	s.must("up", "--password", "--replicas", "2", "--set", "work_mem=5MB")
	for name, n := range s.status() {
		if n.State != lab.Running || (n.Role == lab.RolePrimary) != (name == "node1") || n.Streaming != (name != "node1") {
			t.Errorf("after up: got %+v, want a running primary node1 and streaming replicas", n)
		}
	}
	if got := s.run("up"); got.code != 0 || !strings.Contains(got.err, "already running") {
		t.Errorf("up again: got %+v, want it to say that it is already running", got)
	}
	s.refused([]string{"is running", "pgtide lab down --cluster evening first"}, "up", "--set", "work_mem=6MB")
	if got := pgtide(t, "lab", "status"); !strings.Contains(got.err, "there is evening") {
		t.Errorf("another cluster: got %q, want the one there is", got.err)
	}
	vars := s.env("--super")
	if got := s.ask(vars["PGTIDE_PRIMARY_DSN"], "show work_mem"); got != "5MB" {
		t.Errorf("work_mem: got %s, want 5MB from --set", got)
	}

	s.delays()
	s.faults()
	s.psql(vars)
	s.failover()
	s.restart()

	for _, dsn := range []string{vars["PGTIDE_DSN"], vars["PGTIDE_SUPER_DSN"]} {
		u, err := url.Parse(strings.Split(dsn, ",")[0])
		if err != nil {
			t.Fatal(err)
		}
		password, ok := u.User.Password()
		if !ok {
			t.Errorf("%s: got no password, want one", u.Redacted())
		} else if strings.Contains(s.said, password) {
			t.Errorf("the password of %s is in the output of a command that was not asked for it", u.User.Username())
		}
	}
	if out := s.must("down", "--delete"); !strings.Contains(out, "deleted") {
		t.Errorf("down --delete: got %q, want it to say so", out)
	}
	s.refused([]string{"there is no cluster evening"}, "status")
}

// delays proves by the rows that a delay is real and ends.
func (s *session) delays() {
	if out := s.must("delay", "500ms", "node2"); out != "node2 delayed by 500ms\n" {
		s.Errorf("delay: got %q", out)
	}
	rows := s.lagMS("--count", "2")
	if len(rows) != 2 {
		s.Fatalf("got %d rows, want 2", len(rows))
	}
	for i, row := range rows {
		if row["node2"] < 500 {
			s.Errorf("row %d: delayed node2 showed it after %g ms, want 500 or more", i+1, row["node2"])
		}
		if after, seen := row["node3"]; !seen || after >= 500 {
			s.Errorf("row %d: node3 showed it after %g ms (seen: %t), want less than node2's delay", i+1, after, seen)
		}
	}
	table := s.must("lag", "--count", "1")
	if !strings.Contains(table, "node2: apply delay 500ms, 1 of 1 rows seen after 0.5") {
		s.Errorf("lag: got %s, want a summary of node2", table)
	}
	if out := s.must("delay"); out != "node2 delayed by 3s\nnode3 delayed by 3s\n" {
		s.Errorf("delay: got %q, want 3 s on all replicas", out)
	}
	if n := s.status()["node3"]; n.ApplyDelayMS != 3000 {
		s.Errorf("apply delay of node3: got %d ms, want 3000", n.ApplyDelayMS)
	}
	s.must("delay", "0")
	if n := s.status()["node3"]; n.ApplyDelayMS != 0 {
		s.Errorf("apply delay of node3: got %d ms, want none", n.ApplyDelayMS)
	}
}

// faults proves by the rows that a fault is real and ends, one kind after another.
func (s *session) faults() {
	for _, fault := range []struct {
		begin, end string
		shows      func(lab.NodeStatus) bool
	}{
		{"pause", "resume", func(n lab.NodeStatus) bool { return n.Paused }},
		{"cut", "heal", func(n lab.NodeStatus) bool { return n.Cut && !n.Streaming }},
		{"freeze", "thaw", func(n lab.NodeStatus) bool { return n.State == lab.Frozen }},
		{"stop", "start", func(n lab.NodeStatus) bool { return n.State == lab.Stopped }},
		{"kill", "start", func(n lab.NodeStatus) bool { return n.State == lab.Stopped }},
	} {
		s.must(fault.begin, "node2")
		if n := s.status()["node2"]; !fault.shows(n) {
			s.Errorf("%s node2: got status %+v", fault.begin, n)
		}
		row := s.lagMS("--count", "1", "--patience", "400ms")[0]
		if after, seen := row["node2"]; seen {
			s.Errorf("%s node2: it showed a row after %g ms, want none", fault.begin, after)
		}
		s.must(fault.end, "node2")
		if n := s.status()["node2"]; fault.shows(n) {
			s.Errorf("%s node2: got status %+v", fault.end, n)
		}
		if row := s.lagMS("--count", "1")[0]; len(row) != 2 {
			s.Errorf("%s node2: got rows after %v ms, want both replicas", fault.end, row)
		}
	}
	if out := s.must("pause"); out != "node2 paused\nnode3 paused\n" {
		s.Errorf("pause: got %q, want all replicas", out)
	}
	if out := s.must("resume", "node3", "node2", "node3"); out != "node3 resumed\nnode2 resumed\n" {
		s.Errorf("resume: got %q, want each node once", out)
	}
	s.refused([]string{`no node "node7"`, "node1, node2, node3"}, "cut", "node2", "node7")
	if n := s.status()["node2"]; n.Cut {
		s.Error("node2 is cut although the command named an unknown node")
	}
	s.refused([]string{"node1 is not a replica"}, "pause", "node1")
	s.refused([]string{`no node "node7"`}, "promote", "node7")
}

func (s *session) psql(vars map[string]string) {
	query := []string{"-XAtc", "select current_user || ' ' || pg_is_in_recovery()"}
	if _, err := findPsql(serverPrograms(s.Context(), vars["PGTIDE_SUPER_DSN"])); err != nil {
		s.refused([]string{"find psql", vars["PGTIDE_NODE2_DSN"]}, "psql", "node2")
		return
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"psql", "--"}, "app false\n"},
		{[]string{"psql", "node2", "--"}, "app true\n"},
		{[]string{"psql", "--super", "--"}, "postgres false\n"},
	} {
		if got := s.must(append(test.args, query...)...); got != test.want {
			s.Errorf("lab %s: got %q, want %q", strings.Join(test.args, " "), got, test.want)
		}
	}
	if got := s.run("psql", "--", "-XAtc", "select no_such_column"); got.code != 1 || strings.Contains(got.err, "pgtide:") {
		s.Errorf("a refused query: got %+v, want psql's exit code and message alone", got)
	}
	if got := s.run("psql", "--", "-X", "--no-such-option"); got.code != 1 {
		s.Errorf("an option psql does not know: got %+v, want psql's exit code", got)
	}
}

func (s *session) failover() {
	s.must("kill", "node1")
	s.refused([]string{"primary node1 is stopped", "pgtide lab start --cluster evening node1"}, "lag", "--count", "1")
	s.refused([]string{"node1 is stopped", "pgtide lab start --cluster evening node1"}, "psql")
	if got := s.run("promote", "node2"); got.code != 0 || !strings.Contains(got.err, "pgtide lab rejoin --cluster evening node1") {
		s.Fatalf("promote: got %+v, want the way back for node1", got)
	}
	nodes := s.status()
	if n := nodes["node2"]; n.Role != lab.RolePrimary || n.Timeline != 2 {
		s.Errorf("promote node2: got %+v, want a primary on timeline 2", n)
	}
	if got := s.ask(s.env()["PGTIDE_PRIMARY_DSN"], "select current_setting('cluster_name') || ' ' || pg_is_in_recovery()"); got != "node2 false" {
		s.Errorf("primary of lab env: got %s, want node2", got)
	}
	if table := s.must("status"); !strings.Contains(table, "overtaken by a promotion") {
		s.Errorf("status: got %s, want node1 overtaken", table)
	}
	s.must("rejoin", "node1")
	if n := s.status()["node1"]; n.Role != lab.RoleReplica || !n.Streaming {
		s.Errorf("rejoin node1: got %+v, want a streaming replica", n)
	}
	if row := s.lagMS("--count", "1")[0]; len(row) != 2 {
		s.Errorf("after the failover: got rows after %v ms, want node1 and node3", row)
	}
}

// restart stops the cluster and starts it again, as it was and larger.
func (s *session) restart() {
	s.ask(s.env()["PGTIDE_PRIMARY_DSN"], "select lo_create(4242)::text")
	s.must("down")
	if got := s.run("down"); got.code != 0 || !strings.Contains(got.out, "was not running") {
		s.Errorf("down again: got %+v, want it to say that it was not running", got)
	}
	for name, n := range s.status() {
		if n.State != lab.Stopped {
			s.Errorf("after down %s is %s, want it stopped", name, n.State)
		}
	}
	s.must("up")
	s.must("up", "--replicas", "3")
	nodes := s.status()
	if len(nodes) != 4 || nodes["node2"].Role != lab.RolePrimary {
		s.Errorf("after up --replicas 3: got %v, want four nodes and node2 still the primary", nodes)
	}
	if got := s.ask(s.env()["PGTIDE_NODE4_DSN"], "select count(*)::text from pg_largeobject_metadata where oid = 4242"); got != "1" {
		s.Errorf("what was stored before down: got %s of it on the new replica, want 1", got)
	}
}

// TestLabSyncAndSubscriber has commits that wait for replicas, and a subscriber
// through a failover.
func TestLabSyncAndSubscriber(t *testing.T) {
	s := &session{T: t, flags: []string{"--dir", filepath.Join(clusterParent(t), "cluster")}}
	s.downAfterwards()
	for _, bad := range [][]string{{"up", "--sync", "always"}, {"up", "--subscriber-bin", "/usr"}} {
		if got := s.run(bad...); got.code != exitUsage || !strings.Contains(got.err, bad[1]) {
			t.Errorf("lab %s: got %+v, want it called a misuse of %s", strings.Join(bad, " "), got, bad[1])
		}
	}
	out := s.must("up", "--replicas", "1", "--sync=remote_apply", "--password")
	if !strings.Contains(out, "synchronous (remote_apply)") {
		t.Errorf("up --sync: got %s, want the mode", out)
	}
	if n := s.status()["node2"]; !n.Awaited || n.SyncState != "sync" {
		t.Errorf("after up --sync: got %+v, want node2 synchronous", n)
	}
	s.refused([]string{"no subscriber", "--subscriber"}, "refresh")
	s.execute("create table first as select 1 as i")
	if got := s.ask(s.env()["PGTIDE_NODE2_DSN"], "select count(*)::text from first"); got != "1" {
		t.Errorf("rows on node2 right after the commit: got %s, want 1", got)
	}

	s.must("up", "--subscriber", "--sync", "on") // on the running cluster
	if n := s.status()["subscriber1"]; n.Role != lab.RoleSubscriber || !n.Streaming || n.Source != "node1" {
		t.Errorf("after up --subscriber: got %+v, want it streaming from node1", n)
	}
	if table := s.must("status"); !strings.Contains(table, "synchronous (on)") || !strings.Contains(table, "\nsubscriber1  subscriber  running") {
		t.Errorf("status: got %s, want the mode and the subscriber", table)
	}
	s.execute("create table second as select 1 as i")
	if got := s.run("up", "--subscriber"); got.code != 0 || !strings.Contains(got.err, "refresh --dir") {
		t.Errorf("up --subscriber again: got %+v, want the way to copy new tables", got)
	}
	if out := s.must("refresh"); out != "subscriber1 refreshed\n" {
		t.Errorf("refresh: got %q", out)
	}
	vars := s.env()
	if got := s.ask(vars["PGTIDE_SUBSCRIBER1_DSN"], "select (select count(*) from first) || ' ' || (select count(*) from second)"); got != "1 1" {
		t.Errorf("rows on the subscriber: got %s, want 1 1", got)
	}
	u, err := url.Parse(vars["PGTIDE_SUBSCRIBER1_DSN"])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(vars["PGTIDE_DSN"], u.Host) {
		t.Errorf("PGTIDE_DSN: got %s, want no subscriber in it", vars["PGTIDE_DSN"])
	}
	s.must("cut", "subscriber1")
	if n := s.status()["subscriber1"]; !n.Cut || n.Streaming {
		t.Errorf("after cut: got %+v", n)
	}
	s.must("heal", "subscriber1")
	s.refused([]string{"subscriber1", "not a replica"}, "delay", "500", "subscriber1")

	s.must("kill", "node1")
	if got := s.run("promote", "node2"); got.code != 0 || !strings.Contains(got.err, "resubscribe --dir") {
		t.Errorf("promote: got %+v, want the way on for the subscriber", got)
	}
	if table := s.must("status"); !strings.Contains(table, "reads from node1, not the primary") {
		t.Errorf("status: got %s, want the subscriber left behind", table)
	}
	s.execute("insert into first values (2)") // there is nobody to wait for
	s.must("resubscribe")
	if got := s.ask(vars["PGTIDE_SUBSCRIBER1_DSN"], "select count(*)::text from first"); got != "2" {
		t.Errorf("rows after resubscribing: got %s, want 2", got)
	}
	s.must("down")
	s.must("up", "--sync", "off")
	if table := s.must("status"); strings.Contains(table, "synchronous") || !strings.Contains(table, "subscriber1") {
		t.Errorf("status: got %s, want the subscriber and nothing synchronous", table)
	}
}

// execute runs a statement on the primary.
func (s *session) execute(sql string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.env()["PGTIDE_PRIMARY_DSN"])
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

func TestEnvLines(t *testing.T) {
	s := &session{T: t, flags: []string{"--dir", filepath.Join(clusterParent(t), "it's here")}}
	s.downAfterwards()
	s.must("up", "--replicas", "0")
	status := s.status()
	want := fmt.Sprintf("export PGTIDE_DSN='postgres://app@127.0.0.1:%[1]d/app?sslmode=disable'\n"+
		"export PGTIDE_PRIMARY_DSN='postgres://app@127.0.0.1:%[1]d/app?sslmode=disable'\n"+
		"export PGTIDE_NODE1_DSN='postgres://app@127.0.0.1:%[1]d/app?sslmode=disable'\n", status["node1"].Port)
	if got := s.must("env"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, command := range []string{"delay", "pause", "cut", "lag"} {
		s.refused([]string{"no replicas", `here' --replicas 1`}, command)
	}
}

func TestShellQuote(t *testing.T) {
	for word, want := range map[string]string{"/tmp/lab-1": "/tmp/lab-1", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}
