package main

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/pgtide/pgtide/lab"
)

// One slow replica must show in the figures of plain pools, or those of pgtide
// prove nothing.
func TestBalance(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Close() })
	if err := setupFailover(ctx, cluster); err != nil {
		t.Fatal(err)
	}
	b := &balance{report: &report{rounds: 1, progress: io.Discard}, cluster: cluster}
	t.Cleanup(b.close)
	for _, n := range cluster.Replicas() {
		s, err := slow(fmt.Sprintf("127.0.0.1:%d", n.Port()))
		if err != nil {
			t.Fatal(err)
		}
		b.before = append(b.before, s)
	}
	b.well()
	b.before[0].delay(slowTime)
	f, err := b.figure(ctx, b.byHand, 4)
	if err != nil {
		t.Fatal(err)
	}
	if f.share < 30 || f.share > 36 {
		t.Errorf("plain pools in turn sent %.1f %% to the first of three", f.share)
	}
	if f.p50 < ms(wellTime) || f.p99 < ms(slowTime) {
		t.Errorf("plain pools: p50 %.1f ms and p99 %.1f ms, though every read takes %v, and every third %v", f.p50, f.p99, wellTime, slowTime)
	}
	for _, o := range b.openers(policies...) {
		f, err := b.figure(ctx, o.open, 4)
		if err != nil {
			t.Errorf("%s: %v", o.name, err)
		} else if f.p50 < ms(wellTime) {
			t.Errorf("%s: p50 %.1f ms, though every read takes %v", o.name, f.p50, wellTime)
		}
	}
	if _, err := b.sum([]served{{port: cluster.Primary().Port()}}); err == nil {
		t.Error("a read at the primary passes for one at a replica")
	}
}

func TestFirst(t *testing.T) {
	const its, others = 1, 2
	at := time.Now()
	// Ten calls each 100 ms for 2 s: half of them its own, then none, then half.
	var calls []served
	for tick := range 20 {
		for i := range 10 {
			c := served{at: at.Add(time.Duration(tick)*100*time.Millisecond + time.Duration(i)), port: others}
			if i%2 == 0 && (tick < 5 || tick >= 15) {
				c.port = its
			}
			calls = append(calls, c)
		}
	}
	none := func(share float64) bool { return share == 0 }
	if got := first(calls, its, at, none); got < 400*time.Millisecond || got > 500*time.Millisecond {
		t.Errorf("a share of none from %v on, want it after the calls made at 400 ms", got)
	}
	most := func(share float64) bool { return share > 0.4 }
	if got := first(calls, its, at.Add(600*time.Millisecond), most); got < 700*time.Millisecond || got > 910*time.Millisecond {
		t.Errorf("nearly half of all from %v on, want about 900 ms, less what a window without its calls may hold", got)
	}
	if got := first(calls, its, at, func(float64) bool { return false }); got < 1900*time.Millisecond {
		t.Errorf("what never is so: %v, want all the time there is", got)
	}
}
