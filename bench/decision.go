package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/topology"
)

type noLoad struct{}

func (noLoad) InFlight(int) int64 { return 0 }

// decision measures one routing decision of a session that has a token.
func decision(r *report) {
	for _, c := range []struct {
		nodes  int
		budget float64
	}{{3, 100}, {topology.MaxNodes, 300}} {
		t := topology.NewTracker(topology.Rules{Interval: 200 * time.Millisecond})
		for i := range c.nodes {
			t.Join(topology.Member{Name: fmt.Sprint("node", i)})
		}
		var v *topology.View
		for i := range c.nodes {
			role := topology.Replica
			if i == 0 {
				role = topology.Primary
			}
			v = t.Observe(topology.Observation{
				Node: i, Start: time.Second, SystemID: 1, Incarnation: int64(i + 1), Role: role,
				Position: topology.Position{Timeline: 1, LSN: 5000},
			})
		}
		request := route.Request{
			Level: route.ReadYourWrites, MaxStaleness: time.Minute, Last: topology.NoNode,
			Need: topology.Position{Timeline: 1, LSN: 4000}, Random: 0x9E3779B97F4A7C15,
		}
		b := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				route.Decide(v, &request, noLoad{}, 2*time.Second)
			}
		})
		r.add(result{Name: fmt.Sprintf("one decision, %d nodes", c.nodes), Ours: float64(b.T.Nanoseconds()) / float64(b.N), Unit: "ns", Budget: c.budget})
		r.add(result{Name: fmt.Sprintf("the same, %d nodes", c.nodes), Ours: float64(b.AllocsPerOp()), Unit: "allocs", Budget: 0})
	}
}
