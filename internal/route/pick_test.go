package route

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// cluster is a primary and replicas that all have everything.
func cluster(nodes int) (*topology.View, loads) {
	v := &topology.View{Primary: 0, Timeline: 1, Newest: topology.Position{Timeline: 1, LSN: 1000}}
	v.Floor = topology.Floor{Writes: 10, Position: topology.Position{Timeline: 1, LSN: 900}}
	for i := range nodes {
		n := topology.Node{Member: topology.Member{Name: fmt.Sprint(i)}, Share: 1, State: topology.Up, Role: topology.Replica, Incarnation: 1,
			Position: v.Newest, Fresh: now, FreshKnown: true}
		if i == 0 {
			n.Role = topology.Primary
		}
		v.Nodes = append(v.Nodes, n)
	}
	v.Arrange()
	return v, make(loads, nodes)
}

// typical is a read of a session that has written.
func typical() *Request {
	return &Request{Level: ReadYourWrites, MaxStaleness: 10 * time.Second, Last: topology.NoNode,
		Need: topology.Position{Timeline: 1, LSN: 950}, Writes: 5}
}

// spread counts where many reads go.
func spread(v *topology.View, load loads, draws int) []int {
	rng := rand.New(rand.NewPCG(3, 4))
	counts := make([]int, len(v.Nodes))
	r := typical()
	for range draws {
		r.Random = rng.Uint64()
		counts[Decide(v, r, load, now).Node]++
	}
	return counts
}

func TestEqualsGetEqualShares(t *testing.T) {
	for _, nodes := range []int{2, 3, 4, 6, 17, 64} {
		v, load := cluster(nodes)
		replicas, draws := nodes-1, 3000*(nodes-1)
		counts := spread(v, load, draws)
		if counts[0] != 0 {
			t.Errorf("%d of %d reads went to the primary", counts[0], draws)
		}
		for i, n := range counts[1:] {
			// 3000 are expected; five standard deviations are about 270.
			if n < 2730 || n > 3270 {
				t.Errorf("replica %d of %d got %d of %d reads, want about %d", i+1, replicas, n, draws, draws/replicas)
			}
		}
	}
}

func TestLessLoadedIsPreferred(t *testing.T) {
	v, load := cluster(3)
	load[1], load[2] = 7, 6
	if counts := spread(v, load, 1000); counts[2] != 1000 {
		t.Errorf("of two replicas the less loaded got %d of 1000 reads", counts[2])
	}

	v, load = cluster(6)
	load[3] = 1 // of any two, the other is less loaded
	counts := spread(v, load, 10_000)
	if counts[3] != 0 {
		t.Errorf("the only loaded replica got %d of 10000 reads", counts[3])
	}
	load = loads{0, 5, 5, 0, 5, 5}
	counts = spread(v, load, 10_000)
	// Replica 3 is one of the two drawn of five in 2 cases of 5.
	if counts[3] < 3700 || counts[3] > 4300 {
		t.Errorf("the only idle replica got %d of 10000 reads, want about 4000: two choices, not all", counts[3])
	}
}

// Two choices keep the loads of replicas close together even though nobody
// compares all of them.
func TestTwoChoicesBalance(t *testing.T) {
	v, load := cluster(17)
	rng := rand.New(rand.NewPCG(5, 6))
	r := typical()
	for range 16_000 {
		r.Random = rng.Uint64()
		load[Decide(v, r, load, now).Node]++
	}
	least, most := load[1], load[1]
	for _, n := range load[1:] {
		least, most = min(least, n), max(most, n)
	}
	if most-least > 10 {
		t.Errorf("16000 reads on 16 replicas, none of which ends, leave %d on one and %d on another", most, least)
	}
}

// Under load, too, a node gets what its share says of the reads, and not what it
// can take.
func TestSharesHoldUnderLoad(t *testing.T) {
	for _, shares := range [][]float64{{1, 1.0 / 3}, {1, 0.5, 0.5}, {1, 1, 0.1}} {
		for _, callers := range []int{1, 2, 4, 8, 32} {
			v, load := cluster(len(shares) + 1)
			total := 0.0
			for i, share := range shares {
				v.Nodes[i+1].Share = share
				total += share
			}
			v.Arrange()
			counts := served(v, load, callers, 20_000)
			for i, share := range shares {
				want := 20_000 * share / total
				// Few callers come in lumps: with one call on each of two nodes of
				// different shares, either is where the next one may go.
				if got := float64(counts[i+1]); got < 0.7*want-300 || got > 1.3*want+300 {
					t.Errorf("%d callers, shares %.2f: replica %d got %v of 20000 reads, want about %.0f", callers, shares, i+1, got, want)
				}
			}
		}
	}
}

// served counts where the reads of so many callers go, each of whom makes the
// next when the last has ended, after about the same time on all nodes.
func served(v *topology.View, load loads, callers, reads int) []int {
	type call struct {
		node int
		end  float64
	}
	rng := rand.New(rand.NewPCG(9, 10))
	counts, clock, r := make([]int, len(v.Nodes)), 0.0, typical()
	var calls []call
	for range reads {
		if len(calls) == callers {
			next := slices.MinFunc(calls, func(a, b call) int { return cmp.Compare(a.end, b.end) })
			calls = slices.DeleteFunc(calls, func(c call) bool { return c == next })
			clock = next.end
			load[next.node]--
		}
		r.Random = rng.Uint64()
		i := Decide(v, r, load, now).Node
		load[i]++
		counts[i]++
		calls = append(calls, call{i, clock + rng.ExpFloat64()})
	}
	return counts
}

// Reads get turns among all other calls: those that come first in a session, or
// after a write, may be every second or third.
func TestRoundRobinWhateverComesBetween(t *testing.T) {
	for _, nodes := range []int{3, 4, 5, 17} {
		v, load := cluster(nodes)
		for step := uint64(1); step <= 24; step++ {
			const rounds = 200
			counts := make([]int, nodes)
			for k := range uint64(rounds * (nodes - 1)) {
				r := typical()
				r.Policy, r.Turn = RoundRobin, 1_000_000+k*step
				counts[Decide(v, r, load, now).Node]++
			}
			if counts[0] != 0 {
				t.Errorf("%d reads went to the primary", counts[0])
			}
			for i, n := range counts[1:] {
				if n < rounds*9/10 || n > rounds*11/10 {
					t.Errorf("of %d replicas, number %d got %d reads when every %d. turn is a read's, want about %d", nodes-1, i+1, n, step, rounds)
				}
			}
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	v, load := cluster(64)
	var l Load = load
	fresh, lagging, write := typical(), typical(), typical()
	lagging.Need.LSN, lagging.WaitLeft = 2000, time.Second
	write.Write = Write
	for what, r := range map[string]*Request{"a read": fresh, "a read that waits": lagging, "a write": write} {
		if n := testing.AllocsPerRun(1000, func() { r.Random = rng.Uint64(); Decide(v, r, l, now) }); n != 0 {
			t.Errorf("%s makes %v allocations, want none", what, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{3, 64} {
		v, load := cluster(nodes)
		var l Load = load
		for _, c := range []struct {
			what   string
			change func(*Request)
		}{
			{"read", func(*Request) {}},
			{"sticky", func(r *Request) { r.Last = nodes - 1 }},
			{"eventual", func(r *Request) { r.Level = Eventual }},
			{"lagging", func(r *Request) { r.Need.LSN = 2000 }},
			{"write", func(r *Request) { r.Write = Write }},
		} {
			b.Run(fmt.Sprintf("%s/nodes=%d", c.what, nodes), func(b *testing.B) {
				r := typical()
				c.change(r)
				b.ReportAllocs()
				for b.Loop() {
					r.Random += 0x9E3779B97F4A7C15
					Decide(v, r, l, now)
				}
			})
		}
	}
}
