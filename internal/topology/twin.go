package topology

import "fmt"

// pair looks for another node that is the same server: two names may lead to
// one, for a while, when one of them moves with the primary. A server runs but
// once at a time, so it is used by the name that comes first.
func (t *Tracker) pair(i int) {
	n := &t.view.Nodes[i]
	for k := range t.view.Nodes {
		m := &t.view.Nodes[k]
		if k == i || m.State != Up || n.State != Up || m.SystemID != n.SystemID || m.Incarnation != n.Incarnation || n.Incarnation == 0 {
			continue
		}
		first, second := m, n
		if i < k {
			first, second = n, m
		}
		second.State = Twin
		second.Err = fmt.Errorf("node %q is the same server as node %q, which is used", second.Name, first.Name)
	}
}
