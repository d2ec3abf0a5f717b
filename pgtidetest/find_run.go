package pgtidetest

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// Report is what a [Finder] has found.
type Report struct {
	// Findings are the stale reads, in the order they were made.
	Findings []Finding
	// Frozen and Fresh are what the code under test itself complained of in the two
	// runs; empty if it passed.
	Frozen, Fresh string
	// Answers are the requests of [Finder.FindInHandler] whose status was not the
	// same in both runs, in words.
	Answers []string
	// Trace lists the latest statements of the run with frozen replicas, and why
	// pgtide sent those of the Tide's DBs where it did.
	Trace string

	statements, replicaReads int
	skipped                  bool
}

// Find is [Finder.Run] without a verdict: it fails the test only if the code cannot
// be run at all.
func (o Finder) Find(t testing.TB, f func(t testing.TB, tide *Tide)) Report {
	t.Helper()
	return o.find(t, func(r *run, tide *Tide, _ *witness) { f(r, tide) })
}

// Run is [Run].
func (o Finder) Run(t testing.TB, f func(t testing.TB, tide *Tide)) {
	t.Helper()
	o.find(t, func(r *run, tide *Tide, _ *witness) { f(r, tide) }).tell(t)
}

func (o Finder) find(t testing.TB, f func(*run, *Tide, *witness)) Report {
	t.Helper()
	var report Report
	frozen, complaint, skipped := o.once(t, false, f)
	if report.Frozen = complaint; skipped {
		return Report{skipped: true}
	}
	fresh, complaint, _ := o.once(t, true, f)
	report.Fresh = complaint
	seen := frozen.seen()
	for _, one := range judge(seen, fresh.seen()) {
		if o.Accept == nil || !o.Accept(one) {
			report.Findings = append(report.Findings, one)
		}
	}
	report.Trace = traceOf(seen)
	if frozen.decisions != "" {
		report.Trace += "\n" + frozen.decisions
	}
	report.statements = len(seen)
	for _, s := range seen {
		if s.replica && s.reads() {
			report.replicaReads++
		}
	}
	return report
}

// once makes one of the two runs.
func (o Finder) once(t testing.TB, fresh bool, f func(*run, *Tide, *witness)) (w *witness, complaint string, skipped bool) {
	t.Helper()
	options := defaults
	if o.Options != nil {
		options = *o.Options
	}
	w = newWitness(fresh)
	r := newRun(t)
	begun := false
	r.do(func() {
		tide := NewWith(unkept{r}, w.attach(r, options))
		tide.relays = w.relays
		if !fresh {
			tide.Freeze()
		}
		w.start(tide.source.Cluster().Nodes)
		defer w.stop() // what it cleans up is not looked at
		defer func() { w.decisions = tide.trace.decisions() }()
		begun = true
		f(r, tide, w)
	})
	if !begun {
		t.Fatalf("%s", r.complaint())
	}
	return w, r.complaint(), r.skipped
}

// tell fails the test if there is something to tell.
func (r Report) tell(t testing.TB) {
	t.Helper()
	switch {
	case r.skipped:
		t.SkipNow()
	case r.Fresh != "" && r.Frozen != "":
		t.Errorf("pgtidetest: the code under test fails whether replicas lag or not; with fresh ones it says:\n%s", indent(r.Fresh))
	case r.Fresh != "":
		t.Errorf("pgtidetest: the code under test fails with fresh replicas, and with frozen ones it does not:\n%s", indent(r.Fresh))
	case r.Frozen != "":
		t.Errorf("pgtidetest: the code under test fails with frozen replicas, and with fresh ones it does not:\n%s", indent(r.Frozen))
	case r.statements == 0:
		t.Errorf("pgtidetest: no statement was seen, so nothing was tested: have the code under test use the DSNs of the tide it is given")
	}
	for _, f := range r.Findings {
		t.Errorf("pgtidetest: %s", f)
	}
	for _, a := range r.Answers {
		t.Errorf("pgtidetest: %s", a)
	}
	switch {
	case len(r.Findings) > 0 || r.Frozen != "" && r.Fresh == "":
		t.Logf("pgtidetest: %s", r.Trace)
	case r.replicaReads == 0 && r.statements > 0:
		t.Logf("pgtidetest: no stale reads; none of the %d statements was a read from a frozen replica", r.statements)
	}
}

func indent(text string) string { return "\t" + strings.ReplaceAll(text, "\n", "\n\t") }

// run is the test that the code under test sees: it ends on its own, and what it
// fails with is kept.
type run struct {
	testing.TB
	context context.Context
	cancel  context.CancelFunc

	mu       sync.Mutex // guards the fields below
	failed   bool
	skipped  bool
	text     []string
	cleanups []func()
}

// unkept is a run for a Tide that does not keep its database when the run fails:
// that may be what is looked for.
type unkept struct{ *run }

func (unkept) Failed() bool { return false }

// decisions is the trace if there is one.
func (tr *trace) decisions() string {
	tr.mu.Lock()
	n := len(tr.events)
	tr.mu.Unlock()
	if n == 0 {
		return ""
	}
	return strings.TrimPrefix(tr.String(), "pgtidetest: ")
}

func newRun(t testing.TB) *run {
	r := &run{TB: t}
	r.context, r.cancel = context.WithCancel(t.Context())
	return r
}

// do runs f to its end, or to the first Fatal, and then what it wants cleaned up.
func (r *run) do(f func()) {
	finished := make(chan struct{})
	go func() { // Fatal ends its goroutine
		defer close(finished)
		f()
	}()
	<-finished
	r.cancel()
	for {
		r.mu.Lock()
		n := len(r.cleanups)
		if n == 0 {
			r.mu.Unlock()
			return
		}
		last := r.cleanups[n-1]
		r.cleanups = r.cleanups[:n-1]
		r.mu.Unlock()
		finished := make(chan struct{})
		go func() { // it may end so too
			defer close(finished)
			last()
		}()
		<-finished
	}
}

func (r *run) complaint() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed {
		return strings.Join(r.text, "\n")
	}
	return ""
}

func (r *run) note(text string, failed bool) {
	if _, file, line, ok := runtime.Caller(2); ok && !strings.HasPrefix(text, "pgtidetest: ") {
		text = fmt.Sprintf("%s:%d: %s", filepath.Base(file), line, text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, strings.TrimSuffix(text, "\n"))
	r.failed = r.failed || failed
}

func (r *run) Context() context.Context { return r.context }

func (r *run) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *run) Skipped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skipped
}

func (r *run) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *run) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *run) SkipNow() {
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *run) Log(args ...any)                   { r.note(fmt.Sprintln(args...), false) }
func (r *run) Logf(format string, args ...any)   { r.note(fmt.Sprintf(format, args...), false) }
func (r *run) Error(args ...any)                 { r.note(fmt.Sprintln(args...), true) }
func (r *run) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...), true) }

func (r *run) Fatal(args ...any) {
	r.note(fmt.Sprintln(args...), true)
	runtime.Goexit()
}

func (r *run) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...), true)
	runtime.Goexit()
}

func (r *run) Skip(args ...any) {
	r.TB.Log(args...)
	r.SkipNow()
}

func (r *run) Skipf(format string, args ...any) {
	r.TB.Logf(format, args...)
	r.SkipNow()
}
