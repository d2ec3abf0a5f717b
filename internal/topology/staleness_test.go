package topology

import (
	"testing"
	"time"
)

// The timestamp formula grows on an idle server; this must not.
func TestIdleIsFresh(t *testing.T) {
	tr := track(t)
	for i := range 1000 {
		at := time.Duration(i) * 200 * ms
		tr.primary(a, at, Position{1, 100})
		tr.replica(b, at+50*ms, Position{1, 100})
		tr.stale(b, at+50*ms, 50*ms)
	}
	if n := len(tr.ring.samples); n != 1 {
		t.Errorf("an idle primary takes %d places of the ring, want 1", n)
	}
	if d := tr.view.Nodes[b].Delay; d != 0 {
		t.Errorf("the delay of a replica that has everything is %v", d)
	}
}

// "Received equals replayed" is 0 with the link cut; staleness must not be.
func TestCutLinkGrowsStale(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.observe(Observation{Node: b, Start: 10 * ms, Role: Replica, Position: Position{1, 100}, Receive: 100})
	for at := 200 * ms; at <= 10*time.Second; at += 200 * ms {
		tr.primary(a, at, Position{1, 100 + LSN(at/ms)})
		tr.observe(Observation{Node: b, Start: at + 10*ms, Role: Replica, Position: Position{1, 100}, Receive: 100})
		tr.stale(b, at+10*ms, at+10*ms)
	}
	tr.replica(b, 10_100*ms, Position{1, 100 + 9900}) // healed, not all replayed
	tr.stale(b, 10_100*ms, 300*ms)                    // as of the sample at 9800 ms
	tr.replica(b, 10_200*ms, Position{1, 100 + 10_000})
	tr.stale(b, 10_200*ms, 200*ms)
}

// A cut link on an idle cluster loses nothing: every sample is still covered.
func TestCutLinkOfAnIdleClusterIsFresh(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.primary(a, 5000*ms, Position{1, 100})
	tr.stale(b, 5000*ms, 0)
}

func TestPausedReplicaGrowsStale(t *testing.T) {
	tr := track(t)
	for at := time.Duration(0); at <= 3*time.Second; at += 200 * ms {
		tr.primary(a, at, Position{1, 100 + LSN(at/ms)})
		tr.observe(Observation{Node: b, Start: at, Role: Replica, Position: Position{1, 100}, Receive: 100 + LSN(at/ms), Paused: true})
		tr.stale(b, at, at)
	}
	if !tr.view.Nodes[b].Paused {
		t.Error("the view does not tell that replay is paused")
	}
	if d := tr.view.Nodes[b].Delay; d < 2*time.Second {
		t.Errorf("the delay is %v, want what it has been behind for", d)
	}
}

func TestUnknownIsNeverFresh(t *testing.T) {
	tr := track(t)
	tr.replica(b, 0, Position{1, 100})
	tr.staleUnknown(b, 0) // no primary to compare with
	tr.primary(a, 10*ms, Position{1, 200})
	tr.staleUnknown(b, 10*ms) // below all that was sampled
	tr.replica(b, 20*ms, Position{1, 199})
	tr.staleUnknown(b, 20*ms)
	tr.replica(b, 30*ms, Position{1, 200})
	tr.stale(b, 30*ms, 20*ms)
	tr.replica(c, 40*ms, Position{2, 300})
	tr.staleUnknown(c, 40*ms) // on a timeline that nobody knows
}

// What a view says of a replica is true of a primary sample taken later too, as
// the replica only gains data.
func TestLaterSampleFreshensAnEarlierObservation(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 10*ms, Position{1, 100})
	tr.primary(a, 500*ms, Position{1, 100})
	tr.stale(b, 500*ms, 0)
	tr.primary(a, 700*ms, Position{1, 101})
	tr.stale(b, 700*ms, 200*ms)
}

func TestRingOverflow(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 1})
	tr.replica(b, 0, Position{1, 1})
	tr.stale(b, 0, 0)
	for i := 1; i <= 3*ringSize; i++ {
		tr.primary(a, time.Duration(i)*200*ms, Position{1, 1 + LSN(i)})
		if n := len(tr.ring.samples); n > ringSize {
			t.Fatalf("the ring holds %d samples, the limit is %d", n, ringSize)
		}
	}
	end := 3 * ringSize * 200 * ms
	tr.replica(b, end, Position{1, 1})
	tr.staleUnknown(b, end) // older than anything remembered: unknown, not fresh
	tr.replica(b, end, Position{1, 1 + 3*ringSize - 10})
	tr.stale(b, end, 10*200*ms)
	tr.replica(c, end, Position{1, 1 + 3*ringSize - ringSize/2 + 1})
	tr.stale(c, end, (ringSize/2-1)*200*ms) // at least half of the ring is always there
}

// While somebody waits the primary is probed each millisecond. That must not
// shorten how far back the ring reaches.
func TestRushDoesNotFillTheRing(t *testing.T) {
	tr := track(t)
	for i := range 20_000 {
		tr.primary(a, time.Duration(i)*ms, Position{1, 1 + LSN(i)})
	}
	if n := len(tr.ring.samples); n > 20_000/100+10 {
		t.Errorf("20 s of probes each millisecond left %d samples, want one per half an interval of 200 ms", n)
	}
	tr.replica(b, 20_000*ms, Position{1, 1 + 10_000})
	got, known := tr.view.Nodes[b].Staleness(20_000 * ms)
	if !known || got < 10_000*ms || got > 10_100*ms {
		t.Errorf("a replica 10 s behind is %v stale (known: %v), want that and at most half an interval more", got, known)
	}
}

func TestStalenessAfterFailover(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.primary(a, 1000*ms, Position{1, 200})
	tr.replica(b, 1000*ms, Position{1, 200})
	tr.replica(c, 1000*ms, Position{1, 200})
	tr.primary(a, 2000*ms, Position{1, 300}) // b has not received this: it is lost
	tr.promoted(b, 2500*ms, Position{2, 250}, 200)
	tr.stale(c, 2500*ms, 1500*ms)
	tr.replica(c, 2600*ms, Position{2, 250})
	tr.stale(c, 2600*ms, 100*ms)

	late := track(t) // c has replayed what was lost
	late.primary(a, 0, Position{1, 100})
	late.replica(b, 0, Position{1, 100})
	late.primary(a, 1000*ms, Position{1, 300})
	late.replica(c, 1100*ms, Position{1, 300})
	late.stale(c, 1100*ms, 100*ms)
	late.promoted(b, 1200*ms, Position{2, 150}, 100)
	late.staleUnknown(c, 1200*ms)
}

// An old primary that pgtide still reaches says nothing about what the new one
// has been writing since it was promoted, out of pgtide's sight.
func TestZombiePrimaryFreshensNothing(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 100*ms, Position{1, 100})
	tr.replica(c, 100*ms, Position{1, 100})
	tr.down(b, 200*ms) // from here on b is the primary of those who reach it
	for at := 300 * ms; at <= 60*time.Second; at += 200 * ms {
		tr.primary(a, at, Position{1, 100})
	}
	tr.promoted(b, 60_100*ms, Position{2, 900}, 100)
	tr.stale(c, 60_100*ms, 60_000*ms) // since b was last seen as a replica
	tr.replica(c, 60_200*ms, Position{2, 900})
	tr.stale(c, 60_200*ms, 100*ms)
}

// What b had received when it was promoted, it was promoted after.
func TestFailoverKeepsWhatTheNewPrimaryHas(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(b, 0, Position{1, 100})
	tr.replica(c, 0, Position{1, 100})
	for i := range 10 {
		tr.primary(a, time.Duration(i+1)*1000*ms, Position{1, 200 + LSN(i)*100})
	}
	tr.replica(c, 10_500*ms, Position{1, 650})
	tr.stale(c, 10_500*ms, 5500*ms)
	tr.promoted(b, 10_600*ms, Position{2, 700}, 660) // last seen as a replica long ago
	tr.stale(c, 10_600*ms, 6600*ms)                  // at 4 s a had 500, and 600 came later
	tr.replica(c, 10_700*ms, Position{1, 450})       // it went back
	tr.stale(c, 10_700*ms, 7700*ms)
}

func TestStalenessOfAnUnseenPromotion(t *testing.T) {
	tr := track(t)
	tr.primary(a, 0, Position{1, 100})
	tr.replica(c, 0, Position{1, 100})
	tr.observe(Observation{Node: b, Start: 100 * ms, Role: Primary, Position: Position{2, 150}})
	tr.staleUnknown(c, 100*ms) // where timeline 2 began is not known
	tr.replica(c, 200*ms, Position{2, 150})
	tr.stale(c, 200*ms, 100*ms)
}
