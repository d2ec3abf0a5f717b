package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/demo"
)

// smallDemo is the story with less of everything.
func smallDemo(more ...string) []string {
	return append([]string{"demo", "--listen", "127.0.0.1:0", "--clients", "8", "--rounds", "2", "--delay", "700ms"}, more...)
}

// The whole story: one JSON object, whose figures agree with each other.
func TestDemoOnce(t *testing.T) {
	got := pgtide(t, smallDemo("--once", "--json")...)
	if got.code != 0 {
		t.Fatalf("got exit code %d, want 0:\n%s\n%s", got.code, got.err, got.out)
	}
	for _, key := range []string{"postgres", "replicas", "steps", "naive", "pgtide", "promote_to_write_ms", "ok", "name", "expect", "got", "reads", "stale", "replica_reads", "primary_reads"} {
		if !strings.Contains(got.out, `"`+key+`":`) {
			t.Errorf("got no %q in the JSON", key)
		}
	}
	var r demo.Report
	dec := json.NewDecoder(strings.NewReader(got.out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("decode %s: %v", got.out, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("after the JSON object: got %v, want the end of the output", err)
	}
	if !r.OK || r.Replicas != 2 || !regexp.MustCompile(`^1[4-9]`).MatchString(r.Postgres) {
		t.Errorf("got %+v, want it OK, with 2 replicas of a PostgreSQL from 14 on", r)
	}
	var names []string
	for _, step := range r.Steps {
		names = append(names, step.Name)
		if step.Expect == "" || step.Got == "" || !step.OK {
			t.Errorf("got step %+v, want one that says what was expected and found, and is OK", step)
		}
		if !strings.Contains(got.err, step.Got) {
			t.Errorf("step %s: got no %q in the story", step.Name, step.Got)
		}
	}
	want := "transaction_replicas transaction_itself commit_naive commit_pgtide slow_replica " +
		"http_naive http_pgtide http_replicas http_redirect http_errors failover_write failover_honest"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got steps %s, want %s", got, want)
	}
	const reads = 8 * 2 * 3 // clients, rounds, reads of a round
	if r.Naive.Reads != reads || r.Naive.Stale <= 0 || r.Naive.Stale > reads*2/3 {
		t.Errorf("naive router: got %+v, want %d reads with some stale ones among the %d after a write", r.Naive, reads, reads*2/3)
	}
	if r.Pgtide.Reads != reads || r.Pgtide.Stale != 0 || r.Pgtide.ReplicaReads+r.Pgtide.PrimaryReads != reads || r.Pgtide.ReplicaReads == 0 {
		t.Errorf("pgtide: got %+v, want %d reads, none stale, by replicas or else the primary", r.Pgtide, reads)
	}
	if r.PromoteToWriteMS <= 0 {
		t.Errorf("got %d ms from the promotion to a write, want more", r.PromoteToWriteMS)
	}
}

// After the story the service goes on, with the old primary for a replica,
// until an interrupt; then nothing is left.
func TestDemoServes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	d := startDemo(ctx, t, smallDemo()...)
	url := d.until(`'{"text":"hi"}' (\S+)`)
	d.until(`Ctrl-C ends it`)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	created := ask(ctx, t, browser, http.StatusCreated, "POST", url, `{"text":"after the story"}`)
	id := strings.Split(created, `"`)[3]
	if got := ask(ctx, t, browser, http.StatusOK, "GET", url+"/"+id, ""); !strings.Contains(got, "after the story") {
		t.Errorf("GET: got %s, want the message", got)
	}
	page := strings.TrimSuffix(url, "/api/v1/message") + "/"
	if got := ask(ctx, t, browser, http.StatusOK, "GET", page, ""); !strings.Contains(got, "<li>after the story</li>") || !strings.Contains(got, "Through a naive router") {
		t.Errorf("the page: got %s, want the message and both routers", got)
	}
	if !strings.Contains(d.told.String(), "node1 has rejoined as a replica\n") {
		t.Errorf("got no word of node1 having rejoined in:\n%s", &d.told)
	}

	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.until(`the cluster is stopped, its folder removed`)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: got %v, want exit code 0", err)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder %s after the end: got %v, want it gone", d.dir, err)
	}
}

// An interrupt in the middle of the story ends it too.
func TestDemoInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	d := startDemo(ctx, t, smallDemo("--once")...)
	d.until(`2\. The transaction is committed`)
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.until(`the cluster is stopped, its folder removed`)
	exit := d.cmd.Wait()
	if _, failed := errors.AsType[*exec.ExitError](exit); !failed || d.errs.String() != "pgtide: interrupted\n" {
		t.Errorf("got %v and %q, want an exit code and that it was interrupted", exit, &d.errs)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder %s after the end: got %v, want it gone", d.dir, err)
	}
}

func TestErrDemo(t *testing.T) {
	for _, args := range [][]string{
		{"demo", "story"},
		{"demo", "--twice"},
		{"demo", "--clients", "-1"},
		{"demo", "--delay", "3"},
		{"demo", "--delay", "1h"},
		{"demo", "--listen", "8080"},
	} {
		if got := pgtide(t, args...); got.code != exitUsage || !strings.Contains(got.err, "hint: pgtide demo --help") || got.out != "" {
			t.Errorf("pgtide %s: got %+v, want exit code %d and a hint", strings.Join(args, " "), got, exitUsage)
		}
	}
}

// runningDemo is a pgtide demo in a process of its own.
type runningDemo struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bufio.Scanner
	told bytes.Buffer // the lines so far
	errs bytes.Buffer
	dir  string // the cluster's folder
}

// startDemo returns once the demo has said where its cluster is. The demo is
// killed when ctx ends.
func startDemo(ctx context.Context, t *testing.T, args ...string) *runningDemo {
	t.Helper()
	d := &runningDemo{t: t, cmd: process(ctx, t, args...)}
	d.cmd.Stderr = &d.errs
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewScanner(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.dir = d.until(`^PostgreSQL .* in (/\S+)$`)
	return d
}

// until reads the story up to a line that matches and returns what the
// pattern's group matched, if it has one.
func (d *runningDemo) until(pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for d.out.Scan() {
		d.told.WriteString(d.out.Text() + "\n")
		if m := re.FindStringSubmatch(d.out.Text()); m != nil {
			return m[len(m)-1]
		}
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.t.Fatalf("the demo has ended and never said %q:\n%s%s", pattern, &d.told, &d.errs)
	return ""
}

func ask(ctx context.Context, t *testing.T, by *http.Client, want int, method, url, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := by.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: got %d %s (%v), want %d", method, url, resp.StatusCode, answer, err, want)
	}
	return string(answer)
}
