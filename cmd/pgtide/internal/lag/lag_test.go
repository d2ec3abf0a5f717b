package lag_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/lag"
	"github.com/pgtide/pgtide/lab"
)

func startCluster(ctx context.Context, t *testing.T) (*lab.Cluster, lag.Options) {
	t.Helper()
	c, err := lab.Start(ctx, lab.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	o := lag.Options{Primary: lag.Node{Name: c.Primary().Name(), DSN: c.Primary().DSN()}, Interval: 20 * time.Millisecond}
	for _, n := range c.Replicas() {
		o.Replicas = append(o.Replicas, lag.Node{Name: n.Name(), DSN: n.DSN()})
	}
	return c, o
}

func TestMeasure(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, o := startCluster(ctx, t)
	slow := c.Replicas()[1]

	t.Run("ApplyDelay", func(t *testing.T) {
		const delay = 300 * time.Millisecond
		if err := slow.SetApplyDelay(ctx, delay); err != nil {
			t.Fatal(err)
		}
		o.Rows = 20
		rows := 0
		err := lag.Measure(ctx, o, func(r lag.Row) {
			rows++
			if r.Number != rows || len(r.Seen) != 2 {
				t.Errorf("got row %d with %d sights, want row %d with 2", r.Number, len(r.Seen), rows)
			}
			for i, s := range r.Seen {
				if s.Err != nil {
					t.Errorf("row %d on %s: %v", r.Number, o.Replicas[i].Name, s.Err)
				}
			}
			if after := r.Seen[1].After; after < delay {
				t.Errorf("row %d on the delayed replica: got after %s, want at least %s", r.Number, after, delay)
			}
		})
		if err != nil || rows != 20 {
			t.Errorf("got %d rows, %v, want 20", rows, err)
		}
		if err := slow.SetApplyDelay(ctx, 0); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("Stuck", func(t *testing.T) {
		if err := slow.PauseReplay(ctx); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Rows, o.Patience = 2, 150*time.Millisecond
		err := lag.Measure(ctx, o, func(r lag.Row) {
			if r.Seen[0].Err != nil || r.Seen[1].Err != lag.ErrNotSeen || r.Seen[1].After != 0 {
				t.Errorf("row %d: got %+v, want it not seen on the paused replica only", r.Number, r.Seen)
			}
		})
		if err != nil {
			t.Error(err)
		}
		if err := slow.ResumeReplay(ctx); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("ComesBack", func(t *testing.T) {
		if err := slow.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Rows, o.Patience = 0, 250*time.Millisecond
		gone, back := false, false
		until, stop := context.WithCancel(ctx)
		defer stop()
		err := lag.Measure(until, o, func(r lag.Row) {
			switch err := r.Seen[1].Err; {
			case err == nil:
				back = true
				stop()
			case gone:
			case !errors.Is(err, lag.ErrNotSeen) || err == lag.ErrNotSeen:
				t.Errorf("row %d: got %v, want not seen and the reason", r.Number, err)
				stop()
			default:
				gone = true
				if err := slow.Start(ctx); err != nil {
					t.Error(err)
					stop()
				}
			}
		})
		if !errors.Is(err, context.Canceled) || !gone || !back {
			t.Errorf("got %v, gone: %t, back: %t, want a replica that is given up and comes back", err, gone, back)
		}
	})

	t.Run("PrimaryDies", func(t *testing.T) {
		o := o
		o.Rows, o.Patience = 0, time.Second
		err := lag.Measure(ctx, o, func(r lag.Row) {
			if r.Number == 2 {
				if err := c.Primary().Kill(ctx); err != nil {
					t.Error(err)
				}
			}
		})
		if err == nil || ctx.Err() != nil {
			t.Errorf("got %v, want the primary's error", err)
		}
		if err := lag.Measure(ctx, o, func(lag.Row) {}); err == nil {
			t.Error("a dead primary: got no error")
		}
	})
}
