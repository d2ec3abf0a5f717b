package route

import "github.com/pgtide/pgtide/internal/topology"

// Withhold keeps a read away from replicas: given d, the answer for r, it says
// where r goes instead. It reports false when d stands: r was going to the
// primary anyway, or its caller has named a node.
func Withhold(v *topology.View, r *Request, d Decision) (Decision, bool) {
	if r.Target == ToNode || d.Action == Fail && d.Reason != OutsideGroup || d.Action == Go && d.Node == v.Primary {
		return d, false
	}
	return primary(v, r, Shadow), true
}
