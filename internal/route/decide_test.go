package route

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

var (
	runs = flag.Int("route.runs", 200_000, "how many random decisions to compare with the oracle")
	seed = flag.Uint64("route.seed", 0, "make only the decision of this seed")
)

// mayServe says, in the dumbest way there is, whether a replica may serve a
// read.
func mayServe(v *topology.View, r *Request, i int) bool {
	n := v.Nodes[i]
	if n.State != topology.Up || n.Role != topology.Replica {
		return false
	}
	if r.Tried>>i&1 == 1 {
		return false
	}
	fallback := v.Primary != topology.NoNode || r.Level == Bounded
	if r.MaxStaleness > 0 && (!n.FreshKnown || fallback && now-n.Fresh > r.MaxStaleness) {
		return false
	}
	if r.MaxLag > 0 && v.Primary != topology.NoNode &&
		(n.Position.Timeline != v.Newest.Timeline || n.Position.LSN+topology.LSN(r.MaxLag) < v.Newest.LSN) {
		return false
	}
	if r.Level == Eventual {
		return true
	}
	if !n.Owes.IsZero() && v.Prove(i, n.Owes) != topology.Satisfied {
		return false
	}
	if !r.Need.IsZero() && v.Prove(i, r.Need) != topology.Satisfied {
		return false
	}
	if !r.Prior.IsZero() && v.Prove(i, r.Prior) != topology.Satisfied {
		return false
	}
	if r.Writes > v.Floor.Writes {
		return false
	}
	if r.Writes > 0 && v.Prove(i, v.Floor.Position) != topology.Satisfied {
		return false
	}
	if r.Scattered {
		return false
	}
	if r.Only != 0 && (r.Last != i || r.Only != n.Incarnation) {
		return false
	}
	return true
}

func one[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

func randomPosition(rng *rand.Rand) topology.Position {
	if rng.IntN(3) == 0 {
		return topology.Position{}
	}
	return topology.Position{Timeline: uint32(1 + rng.IntN(3)), LSN: topology.LSN(1 + rng.IntN(10))}
}

func randomView(rng *rand.Rand) (*topology.View, loads) {
	v := &topology.View{Primary: topology.NoNode}
	load := make(loads, 1+rng.IntN(6))
	boss := rng.IntN(len(load)) // usually the primary
	for i := range load {
		n := topology.Node{
			Member:      topology.Member{Name: fmt.Sprint(i), Far: rng.IntN(3) == 0},
			Held:        rng.IntN(6) == 0,
			Ejected:     rng.IntN(6) == 0,
			Latency:     time.Duration(rng.IntN(3)) * time.Millisecond,
			Share:       one(rng, 1, 1, 0.5),
			State:       one(rng, topology.Up, topology.Up, topology.Up, topology.Down, topology.Unseen, topology.Foreign),
			Role:        one(rng, topology.Replica, topology.Replica, topology.Replica, topology.Primary, topology.RoleUnknown),
			Position:    randomPosition(rng),
			Paused:      rng.IntN(4) == 0,
			Incarnation: int64(1 + rng.IntN(2)),
			Fresh:       now - time.Duration(rng.IntN(4))*time.Second,
			FreshKnown:  rng.IntN(4) > 0,
			Delay:       time.Duration(rng.IntN(3)) * 60 * time.Millisecond,
		}
		if i == boss && rng.IntN(4) > 0 {
			n.State, n.Role, n.Position = topology.Up, topology.Primary, topology.Position{Timeline: 3, LSN: 9}
		} else if n.Role == topology.Primary && rng.IntN(2) == 0 {
			n.Role = topology.Replica
		}
		if rng.IntN(8) == 0 {
			n.Owes = randomPosition(rng)
		}
		v.Timeline = max(v.Timeline, n.Position.Timeline)
		v.Nodes = append(v.Nodes, n)
		load[i] = int64(rng.IntN(3))
	}
	for i, n := range v.Nodes {
		if n.State == topology.Up && n.Role == topology.Primary && n.Position.Timeline == v.Timeline {
			v.SplitBrain = v.Primary != topology.NoNode
			v.Primary = i
		}
	}
	if v.SplitBrain {
		v.Primary = topology.NoNode
	}
	if rng.IntN(2) == 0 {
		v.History = v.History.With(topology.Switch{From: 1, To: 2, At: 4})
	}
	if rng.IntN(2) == 0 {
		v.History = v.History.With(topology.Switch{From: 2, To: 3, At: 7})
	}
	if v.Primary != topology.NoNode {
		v.Newest = v.Nodes[v.Primary].Position
		v.Floor = topology.Floor{Writes: uint64(rng.IntN(3)), Position: v.Newest}
	}
	v.Arrange()
	return v, load
}

func randomRead(rng *rand.Rand, nodes int) *Request {
	r := &Request{
		Level:        one(rng, Eventual, Bounded, ReadYourWrites, Session),
		Target:       one(rng, Auto, ToReplica),
		MaxStaleness: time.Duration(rng.IntN(3)) * time.Second,
		Need:         randomPosition(rng),
		Writes:       uint64(rng.IntN(3)),
		Last:         rng.IntN(nodes+1) - 1,
		Scattered:    rng.IntN(8) == 0,
		WaitLeft:     time.Duration(rng.IntN(3)-1) * 100 * time.Millisecond,
		HasWaited:    rng.IntN(4) == 0,
		Tried:        rng.Uint64() & rng.Uint64() & (1<<nodes - 1),
		Random:       rng.Uint64(),
		MaxLag:       one(rng, uint64(0), 0, 3),
		Policy:       one(rng, LeastLoaded, RoundRobin),
		Turn:         rng.Uint64(),
		Trial:        rng.IntN(8) == 0,
	}
	if r.Target == ToReplica {
		r.Write = one(rng, ReasonNone, Unclassified, Transaction)
	}
	if p := randomPosition(rng); p.Timeline < r.Need.Timeline {
		r.Prior = p
	}
	if r.Last >= 0 && rng.IntN(4) == 0 {
		r.Only = int64(1 + rng.IntN(2))
	}
	return r
}

// TestReadAgainstOracle makes random decisions for random reads in random
// views. A read goes to a replica that may serve it when there is one, and
// never to another.
func TestReadAgainstOracle(t *testing.T) {
	first, last := uint64(1), uint64(*runs)
	if *seed != 0 {
		first, last = *seed, *seed
	}
	actions := map[Action]int{}
	for s := first; s <= last; s++ {
		rng := rand.New(rand.NewPCG(s, 0))
		v, load := randomView(rng)
		r := randomRead(rng, len(v.Nodes))
		d := Decide(v, r, load, now)
		if err := checkRead(v, r, d); err != nil {
			t.Fatalf("seed %d (go test -run Oracle -route.seed=%d): %v\nview %+v\nrequest %+v\ndecision %+v: %v", s, s, err, *v, *r, d, d.Reason)
		}
		actions[d.Action]++
	}
	if n := int(last - first + 1); n > 100 && (actions[Go] < n/4 || actions[Wait] < n/40 || actions[Fail] < n/40) {
		t.Errorf("%d decisions were to go, %d to wait, %d to fail: too few of a kind to check", actions[Go], actions[Wait], actions[Fail])
	}
}

func tierOf(n *topology.Node) int {
	switch {
	case n.Ejected || n.Held:
		return 2
	case n.Far:
		return 1
	}
	return 0
}

func checkRead(v *topology.View, r *Request, d Decision) error {
	candidates := map[int]bool{}
	var up uint64
	for i, n := range v.Nodes {
		if mayServe(v, r, i) {
			candidates[i] = true
		}
		if n.State == topology.Up && n.Role == topology.Replica && r.Tried>>i&1 == 0 {
			up |= 1 << i
		}
	}
	tier, tried := topology.Tiers, false // the best of the candidates, and whether one is ejected
	for i := range candidates {
		n := &v.Nodes[i]
		tier, tried = min(tier, tierOf(n)), tried || n.Ejected
	}
	primary := v.Primary != topology.NoNode && r.Tried>>v.Primary&1 == 0
	switch {
	case len(candidates) > 0 && (d.Action != Go || !candidates[d.Node]):
		return fmt.Errorf("want one of the nodes %v", candidates)
	case r.Trial && tried:
		if d.Reason != Trial || !v.Nodes[d.Node].Ejected {
			return fmt.Errorf("want a trial of an ejected node")
		}
	case len(candidates) > 0 && tierOf(&v.Nodes[d.Node]) != tier:
		return fmt.Errorf("want a node of tier %d", tier)
	case len(candidates) > 0 && candidates[r.Last] && tierOf(&v.Nodes[r.Last]) == tier && d.Node != r.Last:
		return fmt.Errorf("want node %d, which it read from last", r.Last)
	case len(candidates) > 0:
		return nil
	case d.Action == Go && (d.Node != v.Primary || !primary):
		return fmt.Errorf("want no node but the primary")
	case d.Action == Go && (d.Reason < Write || d.Reason > Elsewhere):
		return fmt.Errorf("%v is no reason to go to the primary", d.Reason)
	case d.Action == Fail && primary:
		return fmt.Errorf("want the primary, which is there")
	case d.Action == Fail && d.Reason != NoPrimary && d.Reason != SplitBrain:
		return fmt.Errorf("%v is no reason to fail", d.Reason)
	case d.Action == Wait && r.WaitLeft <= 0:
		return fmt.Errorf("there is no time to wait")
	case d.Action == Wait && d.Watch&up == 0:
		return fmt.Errorf("want it to wait for replicas that are up")
	case d.Action == Wait && v.Primary == topology.NoNode && d.Watch&^up != 0:
		return fmt.Errorf("want it to wait for replicas alone")
	}
	return nil
}

// Whatever is asked of whatever view, the answer names a node that exists and
// may write when it must.
func TestDecisionIsSound(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range *runs {
		v, load := randomView(rng)
		r := randomRead(rng, len(v.Nodes))
		r.Write = one(rng, ReasonNone, Write, SessionBound, Unclassified, Transaction, Refused)
		r.Target = one(rng, Auto, ToPrimary, ToReplica, ToNode)
		r.Level = one(rng, Eventual, Bounded, ReadYourWrites, Session, Primary)
		r.Node = rng.IntN(len(v.Nodes))
		d := Decide(v, r, load, now)
		switch {
		case d.Action == Go && (d.Node < 0 || d.Node >= len(v.Nodes)):
			t.Fatalf("%+v in %+v goes to node %d", *r, *v, d.Node)
		case d.Action == Go && v.Nodes[d.Node].State != topology.Up:
			t.Fatalf("%+v in %+v goes to node %d, which is %v", *r, *v, d.Node, v.Nodes[d.Node].State)
		case d.Action == Go && r.Tried&bit(d.Node) != 0:
			t.Fatalf("%+v in %+v goes to node %d again", *r, *v, d.Node)
		case d.Action == Go && r.Target == ToNode && d.Node != r.Node:
			t.Fatalf("%+v in %+v goes to node %d, not the one named", *r, *v, d.Node)
		case d.Action == Go && r.Target != ToNode && d.Node != v.Primary &&
			(r.Write == Write || r.Write == SessionBound || r.Write == Refused || r.Target != ToReplica && r.Write != ReasonNone):
			t.Fatalf("%+v in %+v writes to node %d, which is not the primary", *r, *v, d.Node)
		case d.Action == Wait && (d.Watch == 0 || d.Watch&^all(v) != 0):
			t.Fatalf("%+v in %+v waits for %b", *r, *v, d.Watch)
		case d.Action == 0 || d.Reason == ReasonNone:
			t.Fatalf("%+v in %+v: no decision: %+v", *r, *v, d)
		}
	}
}

func TestReasonsHaveDistinctNames(t *testing.T) {
	seen := map[string]Reason{}
	for r := ReasonNone; int(r) < Reasons; r++ {
		if old, ok := seen[r.String()]; ok || r.String() == "" {
			t.Errorf("reasons %d and %d are both called %q", old, r, r)
		}
		seen[r.String()] = r
	}
	if got := Reason(200).String(); got != "unknown" {
		t.Errorf("a reason that does not exist is called %q", got)
	}
}
