package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide/lab"
)

// The suite in its shortest form: its times mean nothing, what it counts does.
func TestFailoverSuite(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"-suite", "failover", "-rounds", "1", "-json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	held := map[string]bool{"killed": false, "switchover": false, "frozen replica": false, "frozen primary": false, "frozen primary replaced": false}
	for _, s := range r.Results {
		scenario, _, _ := strings.Cut(s.Name, ":")
		if _, known := held[scenario]; !known {
			t.Errorf("%q is of no scenario", s.Name)
		}
		timed := s.Unit == "ms" || strings.Contains(s.Name, "late")
		switch {
		case s.Unit == "ms" && s.Ours <= 0:
			t.Errorf("%s: %v ms", s.Name, s.Ours)
		case !timed && !s.Shown:
			held[scenario] = true
			if !s.OK {
				t.Errorf("%s: %v %s, the budget is %v", s.Name, s.Ours, s.Unit, s.Budget)
			}
		}
	}
	for scenario, held := range held {
		if !held {
			t.Errorf("%s: nothing was counted that has a budget", scenario)
		}
	}
}

func TestQuantile(t *testing.T) {
	var twenty []float64
	for i := range 20 {
		twenty = append(twenty, float64(20-i)) // the greatest first
	}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.05, 1}, {0.5, 10}, {0.51, 11}, {0.95, 19}, {0.99, 20}, {1, 20}} {
		if got := quantile(twenty, c.q); got != c.want {
			t.Errorf("quantile %v of 1 to 20: %v, want %v", c.q, got, c.want)
		}
	}
}

// A row that is written twice and one that is gone must be counted, or the
// figures that are to be zero say nothing.
func TestRowsAreCounted(t *testing.T) {
	f := labFailover(t)
	c := client{"counted", f.pool, newTally()}
	for _, id := range []int64{1, 2, 2, 3} {
		if err := c.write(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.rows(t.Context(), c.name, []int64{1, 2, 3, 4, 5})
	if want := (kept{twice: 1, lost: 2}); err != nil || got != want {
		t.Errorf("rows 1, 2, 2 and 3 against 1 to 5: %+v (%v), want %+v", got, err, want)
	}
	if at := c.found.at(f.cluster.Primary().Port()); at.IsZero() {
		t.Error("the server that acknowledged is not noted")
	}
	// Reads that find no row of their session count as stale.
	m := &moved{writer: client{"another name", f.db, newTally()}}
	m.session(t.Context(), 6)
	if m.stale.Load() != 1 {
		t.Errorf("%d stale reads where the row is not to be found, want 1", m.stale.Load())
	}
}

// labFailover starts the cluster of the failover suite until the end of the test.
func labFailover(t *testing.T) *failover {
	t.Helper()
	cluster, err := lab.Start(t.Context(), lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Close() })
	if err := setupFailover(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	f := &failover{cluster: cluster, states: newStates()}
	t.Cleanup(f.close)
	if f.db, err = f.open(t.Context(), f.states); err != nil {
		t.Fatal(err)
	}
	if f.pool, err = f.openPool(t.Context(), func(*pgxpool.Config) {}); err != nil {
		t.Fatal(err)
	}
	return f
}
