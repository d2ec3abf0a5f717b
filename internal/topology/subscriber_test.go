package topology

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/published"
)

// subscribed is a tracker whose node b is a subscriber of a, and c a replica.
type subscribed struct {
	*tracked
	worker int32
	stock  *published.Stock
	offer  *published.Offer
}

func subscribe(t *testing.T) *subscribed {
	t.Helper()
	s := &subscribed{tracked: track(t), worker: 1, stock: &published.Stock{}, offer: published.NewOffer()}
	return s
}

// subscriber observes b, whose worker has applied and received so much.
func (s *subscribed) subscriber(at time.Duration, applied, received LSN) *View {
	return s.feed(at, &Feed{Applied: applied, Received: received})
}

func (s *subscribed) feed(at time.Duration, f *Feed) *View {
	f.OID, f.Slot, f.Worker, f.Stock = 1, "slot", s.worker, s.stock
	return s.observe(Observation{Node: b, Start: at, End: at + ms, Role: Subscriber, Incarnation: int64(s.worker), SystemID: 99, Feed: f})
}

// sends observes a primary that sends by a process.
func (s *subscribed) sends(node int, at time.Duration, p Position, process int32, confirmed LSN) *View {
	return s.observe(Observation{Node: node, Start: at, End: at + ms, Role: Primary, Position: p,
		Outlet: &Outlet{Slots: map[string]Slot{"slot": {process, confirmed}}, Offer: s.offer}})
}

func (s *subscribed) at(want Position) {
	s.t.Helper()
	if n := s.view.Nodes[b]; n.Position != want {
		s.t.Errorf("the subscriber is at %v (%v), want %v", n.Position, n.Err, want)
	}
}

func TestSubscriberIsPlacedByItsPrimary(t *testing.T) {
	s := subscribe(t)
	s.sends(a, 0, Position{1, 100}, 7, 90)
	s.subscriber(10*ms, 100, 100)
	s.at(Position{}) // whose log that is, nobody has said
	s.sends(a, 10*ms, Position{1, 110}, 7, 90)
	s.subscriber(20*ms, 110, 110)
	s.at(Position{}) // that probe may have been answered before
	s.sends(a, 30*ms, Position{1, 120}, 7, 90)
	s.subscriber(30*ms, 120, 120)
	s.at(Position{}) // this one too
	s.proves(b, Position{1, 100}, Unknown)
	s.subscriber(40*ms, 120, 120)
	s.at(Position{1, 120})
	s.proves(b, Position{1, 120}, Satisfied)
	s.proves(b, Position{1, 121}, Behind)
	s.stale(b, 50*ms, 20*ms)
	if n := s.view.Nodes[b]; n.State != Up || n.Role != Subscriber || n.Err != nil || s.view.Subscribers != 1<<b || s.view.Replicas != 0 {
		t.Errorf("the subscriber is %v, %v, %v; sets %b and %b", n.State, n.Role, n.Err, s.view.Subscribers, s.view.Replicas)
	}
	// Its position counts as far as the primary was seen with its publications.
	s.subscriber(60*ms, 140, 140)
	s.at(Position{1, 120})
	s.sends(a, 70*ms, Position{1, 150}, 7, 90)
	s.at(Position{1, 140})
	s.primary(a, 80*ms, Position{1, 180}) // nobody asked for them
	s.subscriber(85*ms, 170, 170)
	s.at(Position{1, 150})
	s.sends(a, 90*ms, Position{1, 300}, 7, 90)
	s.at(Position{1, 170})
}

func TestSubscriberWhoseWorkerIsAnother(t *testing.T) {
	s := subscribe(t)
	s.subscriber(0, 100, 100)
	s.sends(a, 10*ms, Position{1, 100}, 7, 90)
	s.subscriber(20*ms, 100, 100)
	s.at(Position{1, 100})
	s.worker = 2
	s.subscriber(30*ms, 0, 0)
	s.at(Position{})
	s.sends(a, 40*ms, Position{1, 110}, 7, 100)
	s.subscriber(50*ms, 110, 110)
	s.at(Position{}) // 7 may be what sent to the worker before
	s.sends(a, 60*ms, Position{1, 110}, 7, 110)
	s.subscriber(70*ms, 110, 110)
	s.at(Position{1, 110}) // it is not: somebody confirms
	s.worker = 0
	s.feed(80*ms, &Feed{Fault: errors.New("its subscription is disabled")})
	if n := s.view.Nodes[b]; n.State != Up || n.Err == nil || !strings.Contains(n.Err.Error(), `node "b": its subscription is disabled`) {
		t.Errorf("a subscription that is disabled: %v, %v", n.State, n.Err)
	}
}

func TestSubscriberAcrossAFailover(t *testing.T) {
	// fed is a subscriber that has applied up to 150 from a, which is left at 120.
	fed := func(commit LSN) *subscribed {
		s := subscribe(t)
		s.subscriber(0, 100, 100)
		s.sends(a, 10*ms, Position{1, 160}, 7, 90)
		s.replica(c, 10*ms, Position{1, 120})
		s.feed(20*ms, &Feed{Applied: 150, Received: 150, Commit: commit})
		s.at(Position{1, 150})
		s.observe(Observation{Node: c, Start: 30 * ms, End: 31 * ms, Role: Primary, Position: Position{2, 200}, RecoveryEnd: 120,
			Outlet: &Outlet{Slots: map[string]Slot{}, Offer: s.offer}})
		s.elected(c)
		// The old primary feeds it on. Its numbers say nothing of the new log.
		s.feed(40*ms, &Feed{Applied: 500, Received: 500, Commit: commit})
		s.proves(b, Position{1, 110}, Satisfied)
		s.proves(b, Position{1, 130}, Lost)
		s.proves(b, Position{2, 130}, Unknown)
		s.staleUnknown(b, 40*ms)
		s.worker = 2
		s.feed(50*ms, &Feed{Commit: commit})
		s.sends(c, 60*ms, Position{2, 600}, 8, 100)
		s.sends(c, 70*ms, Position{2, 600}, 8, 110)
		return s
	}
	s := fed(0)
	s.subscriber(80*ms, 600, 600)
	if n := s.view.Nodes[b]; n.State != Foreign || n.Err == nil || !strings.Contains(n.Err.Error(), "a failover has lost") {
		t.Errorf("a subscriber with what was lost is %v: %v", n.State, n.Err)
	}
	s.feed(90*ms, &Feed{Applied: 600, Received: 600})
	if n := s.view.Nodes[b]; n.State != Foreign || s.view.Subscribers != 0 {
		t.Errorf("it is %v later", n.State)
	}
	// Its last transaction was before the switch: it received no more than records
	// that it has no use for.
	s = fed(115)
	s.feed(80*ms, &Feed{Applied: 600, Received: 600, Commit: 115})
	s.at(Position{2, 600})
}

func TestSubscriberThatConfirmsAnotherLog(t *testing.T) {
	s := subscribe(t)
	s.subscriber(0, 100, 100)
	s.worker = 2
	s.subscriber(10*ms, 0, 900)
	s.sends(a, 20*ms, Position{1, 100}, 7, 900)
	s.subscriber(30*ms, 0, 900)
	s.sends(a, 40*ms, Position{1, 100}, 7, 900) // nothing more is confirmed for a long time
	s.subscriber(50*ms, 0, 900)
	s.sends(a, 60*ms, Position{1, 100}, 7, 900)
	if n := s.view.Nodes[b]; n.State != Foreign {
		t.Errorf("the subscriber is %v: %v", n.State, n.Err)
	}
}

func TestSubscriberAheadOfItsPrimary(t *testing.T) {
	s := subscribe(t)
	s.subscriber(0, 100, 500)
	s.sends(a, 10*ms, Position{1, 100}, 7, 90)
	s.subscriber(20*ms, 100, 500)
	s.at(Position{1, 100})
	s.sends(a, 20*ms, Position{1, 100}, 7, 90) // asked before that was answered
	s.at(Position{1, 100})
	s.sends(a, 30*ms, Position{1, 499}, 7, 90)
	if n := s.view.Nodes[b]; n.State != Foreign || n.Err == nil || !strings.Contains(n.Err.Error(), "has what its primary has not") {
		t.Errorf("a subscriber ahead of its primary is %v: %v", n.State, n.Err)
	}
}

func TestViewsTellWhatSubscribersLack(t *testing.T) {
	s := subscribe(t)
	s.stock = &published.Stock{Publications: []string{"p"}, Relations: []published.Relation{
		{OID: 1, Schema: "public", Name: "t", Kind: published.Table, Synced: true},
		{OID: 2, Schema: "public", Name: "u", Kind: published.Table},
	}}
	s.subscriber(0, 100, 100)
	if got := s.view.Catalogs.Fit(nil); got != 0 {
		t.Errorf("%b are fit before the primary has told what it publishes", got)
	}
	s.offer.Publish("p", "public", "t", "")
	s.sends(a, 10*ms, Position{1, 100}, 7, 90)
	catalogs := s.view.Catalogs
	if got := catalogs.Fit([]string{"t", "x"}); got != 1<<b {
		t.Errorf("%b are fit for what is published, want b", got)
	}
	if got := catalogs.Fit([]string{"t", "u"}); got != 0 {
		t.Errorf("%b are fit for what is not", got)
	}
	s.subscriber(20*ms, 100, 100)
	if s.view.Catalogs != catalogs {
		t.Error("catalogs that are the same are made anew: whoever goes by them must begin again")
	}
	s.view = s.Leave(b)
	if got := s.view.Catalogs.Fit([]string{"t"}); got != 0 {
		t.Errorf("%b are fit after the subscriber has left", got)
	}
}
