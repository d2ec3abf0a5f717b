package route

import (
	"fmt"
	"math/rand/v2"
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
