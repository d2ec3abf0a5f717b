package patroni_test

import (
	"fmt"
	"testing"
	"time"
)

// TestSwitchover: a leader that hands over in an orderly way costs nobody
// anything but time.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	l := startLoad(t, c)
	l.more(t, 300)
	l.outage()
	for range 2 {
		from := c.leader(t)
		to := c.follower(from)
		c.switchover(t, to)
		l.more(t, 300)
		c.await(t, "n1", "n2", "n3")
		t.Logf("%s handed over to %s: %v without a write", from.name, to.name, l.outage().Round(time.Millisecond))
		for i, a := range l.programs {
			until(t, fmt.Sprintf("the primary of program %d", i+1), func() error { return a.writes(to.name) })
		}
	}
	l.more(t, 300)
	l.end()
	if lost := l.account(t, c.leader(t)); lost > 0 || l.told.Load() > 0 {
		t.Errorf("%d writes are lost and %d requests were told so, want none: the old leader had sent all it had", lost, l.told.Load())
	}
	for _, a := range l.programs {
		if a.reads("n1")+a.reads("n2")+a.reads("n3") == 0 {
			t.Error("no replica has served a read: nothing could have been stale")
		}
	}
}

// TestFailover: members join, the leader dies with writes that nobody else has,
// comes back as a replica, and another member leaves, while everybody works on.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	l := startLoad(t, c)
	l.more(t, 300)

	c.add(t, "n4")
	c.await(t, "n1", "n2", "n3", "n4")
	l.nodes(t, "n1", "n2", "n3", "n4")
	for i, a := range l.programs {
		until(t, fmt.Sprintf("reads of program %d from n4", i+1), func() error {
			if a.reads("n4") == 0 {
				return fmt.Errorf("replicas served %v", a.reads("n4"))
			}
			return nil
		})
	}

	l.outage()
	dead := c.leader(t)
	c.hold(t, dead)
	l.more(t, 50)
	killed := time.Now()
	c.kill(t, dead)
	l.more(t, 300)
	t.Logf("%s died: %v without a write; 300 requests served %v after", dead.name,
		l.outage().Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	left := c.others(dead)
	l.nodes(t, left...)
	c.add(t, dead.name)
	c.await(t, "n1", "n2", "n3", "n4")
	l.nodes(t, "n1", "n2", "n3", "n4")
	l.more(t, 300)

	leader := c.leader(t)
	gone := c.follower(leader)
	c.remove(t, gone)
	l.nodes(t, c.others(gone)...)
	l.more(t, 300)
	l.end()
	if lost := l.account(t, leader); lost == 0 {
		t.Error("no acknowledged write is lost: nobody had to be told")
	}
}
