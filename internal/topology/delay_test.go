package topology

import (
	"testing"
	"time"
)

// replay drives a primary that writes all the time and a replica whose replay
// lags by a fixed time, each probed every interval, and returns the estimate.
func replay(tr *tracked, from, until, lag time.Duration) time.Duration {
	position := func(at time.Duration) Position { return Position{1, 1000 + LSN(max(0, at)/ms)} }
	for at := from; at < until; at += 200 * ms {
		tr.primary(a, at, position(at))
		tr.replica(b, at+60*ms, position(at+60*ms-lag))
	}
	return tr.view.Nodes[b].Delay
}

func TestDelay(t *testing.T) {
	for _, lag := range []time.Duration{0, 5 * ms, 50 * ms} {
		if got := replay(track(t), 0, 20*time.Second, lag); got != 0 {
			t.Errorf("a replica that takes %v has delay %v: it was never seen behind a sample", lag, got)
		}
	}
	for _, lag := range []time.Duration{500 * ms, 3 * time.Second, 8 * time.Second} {
		got := replay(track(t), 0, 40*time.Second, lag)
		if got > lag || got < lag-450*ms {
			t.Errorf("a replica that takes %v has delay %v, want at most that and two intervals less", lag, got)
		}
	}
}

func TestDelayFollowsAReplicaThatRecovers(t *testing.T) {
	tr := track(t)
	replay(tr, 0, 20*time.Second, 3*time.Second)
	if got := replay(tr, 20*time.Second, 21*time.Second, 0); got > 0 {
		t.Errorf("delay %v a second after the replica became fast, want 0", got)
	}
	if got := replay(tr, 21*time.Second, 40*time.Second, 2*time.Second); got < 1500*ms {
		t.Errorf("delay %v after the replica became slow again, want about 2 s", got)
	}
}

// Nothing new is learned while nothing is written: the estimate stays.
func TestDelayOfAnIdleClusterStays(t *testing.T) {
	tr := track(t)
	replay(tr, 0, 20*time.Second, 3*time.Second)
	newest := tr.view.Newest
	for at := 20 * time.Second; at < 60*time.Second; at += 200 * ms {
		tr.primary(a, at, newest)
		p := newest
		if at < 23*time.Second {
			p.LSN -= LSN((23*time.Second - at) / ms)
		}
		tr.replica(b, at+60*ms, p)
	}
	if got := tr.view.Nodes[b].Delay; got < 2500*ms || got > 3300*ms {
		t.Errorf("delay %v after an idle time, want about 3 s as before it", got)
	}
}

func TestDelayOfAStuckReplicaGrows(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	for at := 200 * ms; at <= 5*time.Second; at += 200 * ms {
		tr.primary(a, at, Position{1, 100 + LSN(at/ms)})
		tr.replica(b, at, Position{1, 100})
		if got, want := tr.view.Nodes[b].Delay, at-200*ms; got != want {
			t.Fatalf("at %v the delay is %v, want %v: it has lacked the first write for as long", at, got, want)
		}
	}
}

// A write that a failover lost is nothing to wait for.
func TestDelayForgetsLostWrites(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.replica(c, 0, Position{1, 100})
	tr.primary(a, 200*ms, Position{1, 900})
	tr.replica(c, 250*ms, Position{1, 100})
	tr.promoted(b, 300*ms, Position{2, 150}, 100)
	for at := 400 * ms; at < 60*time.Second; at += 200 * ms {
		tr.primary(b, at, Position{2, 150})
		tr.replica(c, at, Position{2, 150})
	}
	if got := tr.view.Nodes[c].Delay; got > 100*ms {
		t.Errorf("delay %v of a replica that has all there is", got)
	}
}
