package route

import (
	"testing"

	"github.com/pgtide/pgtide/internal/topology"
)

func TestWithhold(t *testing.T) {
	two := topology.View{Primary: 0, Nodes: make([]topology.Node, 2)}
	none := topology.View{Primary: topology.NoNode, Nodes: make([]topology.Node, 2)}
	replica := Decision{Action: Go, Reason: Fresh, Node: 1}
	for _, test := range []struct {
		name string
		v    *topology.View
		r    Request
		d    Decision
		want Decision
		held bool
	}{
		{"a read of a replica", &two, Request{}, replica, Decision{Action: Go, Reason: Shadow, Node: 0}, true},
		{"one that the caller sent there", &two, Request{Target: ToReplica}, replica, Decision{Action: Go, Reason: Shadow, Node: 0}, true},
		{"one that would wait", &two, Request{}, Decision{Action: Wait, Reason: Lagging, Node: topology.NoNode}, Decision{Action: Go, Reason: Shadow, Node: 0}, true},
		{"one that goes to the primary anyway", &two, Request{}, Decision{Action: Go, Reason: Lagging, Node: 0}, Decision{Action: Go, Reason: Lagging, Node: 0}, false},
		{"a named node", &two, Request{Target: ToNode, Node: 1}, Decision{Action: Go, Reason: Named, Node: 1}, Decision{Action: Go, Reason: Named, Node: 1}, false},
		{"a wait for a named node", &two, Request{Target: ToNode, Node: 1}, Decision{Action: Wait, Reason: NotFresh, Node: 1}, Decision{Action: Wait, Reason: NotFresh, Node: 1}, false},
		{"a replica while there is no primary", &none, Request{}, replica, Decision{Action: Fail, Reason: NoPrimary, Node: topology.NoNode, Watch: 3}, true},
		{"a group that has nobody", &two, Request{Target: ToReplica, Group: 2, Fallback: Nobody}, Decision{Action: Fail, Reason: OutsideGroup, Node: topology.NoNode}, Decision{Action: Go, Reason: Shadow, Node: 0}, true},
		{"no way", &none, Request{}, Decision{Action: Fail, Reason: NoPrimary, Node: topology.NoNode}, Decision{Action: Fail, Reason: NoPrimary, Node: topology.NoNode}, false},
	} {
		got, held := Withhold(test.v, &test.r, test.d)
		if got != test.want || held != test.held {
			t.Errorf("%s: %+v, %v, want %+v, %v", test.name, got, held, test.want, test.held)
		}
	}
}
