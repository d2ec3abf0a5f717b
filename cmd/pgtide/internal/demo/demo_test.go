package demo

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestErrOptions(t *testing.T) {
	for _, o := range []Options{
		{Clients: -1}, {Clients: maxCount + 1}, {Rounds: -1}, {Delay: -time.Second}, {Delay: time.Microsecond}, {Delay: MaxDelay + 1},
		{Listen: "8080"},
	} {
		d, err := Start(t.Context(), o)
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, ErrOptions) {
			t.Errorf("Start(%+v): got error %v, want ErrOptions", o, err)
		}
	}
}

// An expectation that does not hold is told where it fails and at the end, and
// spoils the report.
func TestStory(t *testing.T) {
	var out strings.Builder
	s := story{out: &out}
	s.expect("one", "it is one", true, "%d", 1)
	s.end()
	if !s.report.OK {
		t.Errorf("all expectations held: got %+v, want it OK", s.report)
	}
	s.expect("two", "it is two", false, "%d", 3)
	s.end()
	want := []Step{{"two", "it is two", "3", false}}
	if got := s.report.Failed(); s.report.OK || !reflect.DeepEqual(got, want) {
		t.Errorf("an expectation did not hold: got OK %v and failed steps %+v, want %+v", s.report.OK, got, want)
	}
	for _, line := range []string{"✓ it is one\n", "✗ expected: it is two\n", "1 of 2 expectations held\n", "✗ two: expected that it is two, but got: 3\n"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("got %q, want %q in it", out.String(), line)
		}
	}
}

// The expectations can fail: here the slow replica keeps up, and then the
// messages are gone.
func TestStoryMeasures(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := Start(ctx, Options{Listen: "127.0.0.1:0", Clients: 1, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.slow.SetApplyDelay(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.tellTransaction(ctx); err != nil {
		t.Fatal(err)
	}
	for _, step := range d.story.report.Steps {
		if step.Name == "slow_replica" && step.OK {
			t.Errorf("the slow replica was not slow: got %+v, want it not OK", step)
		}
	}
	if _, err := d.db.Exec(ctx, "drop table message"); err != nil {
		t.Fatal(err)
	}
	if err := d.tellClients(ctx); err != nil {
		t.Fatal(err)
	}
	for _, step := range d.story.report.Steps {
		if strings.HasPrefix(step.Name, "http_") && step.OK {
			t.Errorf("there were no messages: got %+v, want it not OK", step)
		}
	}
	d.story.end()
	if d.story.report.OK {
		t.Error("got an OK report of a story that went wrong")
	}
}
