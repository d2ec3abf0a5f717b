package topology

// furthest returns the newest position that any node is known to have had on a
// timeline: what all of them had lies before it.
func (t *Tracker) furthest(timeline uint32) Position {
	p := Position{Timeline: timeline}
	if t.view.Newest.Timeline == timeline {
		p = t.view.Newest
	}
	for i := range t.view.Nodes {
		if q := t.view.Nodes[i].Position; q.Timeline == timeline && q.LSN > p.LSN {
			p = q
		}
	}
	return p
}

// paid forgets what a node owed, once it has it.
func (t *Tracker) paid(i int, n *Node) {
	if n.Owes.IsZero() {
		return
	}
	proof := t.view.Prove(i, n.Owes)
	if proof != Satisfied && n.Owes.Timeline < t.view.Newest.Timeline && t.view.Newest.Timeline == t.view.Timeline && proof != Behind {
		// A failover took it from everybody, or nobody can tell. Whatever is left
		// of it, the new primary had it when it was first seen.
		n.Owes = t.view.Newest
		proof = t.view.Prove(i, n.Owes)
	}
	if proof == Satisfied {
		n.Owes = Position{}
	}
}
