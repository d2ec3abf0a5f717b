package topology

import "testing"

func (p Proof) String() string {
	return [...]string{Unknown: "unknown", Behind: "behind", Satisfied: "satisfied", Lost: "lost"}[p]
}

func TestReaches(t *testing.T) {
	// Timeline 2 left 1 at 400, 3 left 2 at 700. Timeline 5 left 1 at 600: it
	// does not descend from 2. How 7 began was never seen.
	h := History{}.
		With(Switch{From: 1, To: 2, At: 400}).
		With(Switch{From: 2, To: 3, At: 700}).
		With(Switch{From: 1, To: 5, At: 600})
	for _, c := range []struct {
		what       string
		have, want Position
		proof      Proof
	}{
		{"nothing wanted", Position{1, 100}, Position{}, Satisfied},
		{"nothing wanted of a node that has nothing", Position{}, Position{}, Satisfied},
		{"a node that has nothing", Position{}, Position{1, 1}, Unknown},
		{"same timeline, past", Position{1, 101}, Position{1, 100}, Satisfied},
		{"same timeline, exactly", Position{1, 100}, Position{1, 100}, Satisfied},
		{"same timeline, before", Position{1, 99}, Position{1, 100}, Behind},
		{"same timeline of unseen origin", Position{7, 100}, Position{7, 100}, Satisfied},

		{"old position up to the switch", Position{2, 450}, Position{1, 400}, Satisfied},
		{"old position, not there yet", Position{2, 300}, Position{1, 350}, Behind},
		{"old position past the switch", Position{2, 9000}, Position{1, 401}, Lost},
		{"old position past the switch, not there yet", Position{2, 300}, Position{1, 401}, Lost},
		{"two promotions ago, up to the switch", Position{3, 800}, Position{1, 400}, Satisfied},
		{"two promotions ago, past the first switch", Position{3, 800}, Position{1, 500}, Lost},
		{"one promotion ago, past the first switch", Position{3, 800}, Position{2, 500}, Satisfied},
		{"one promotion ago, past the second switch", Position{3, 800}, Position{2, 701}, Lost},

		{"unseen promotion", Position{7, 9000}, Position{1, 100}, Unknown},
		{"unseen promotion, the other way", Position{1, 9000}, Position{7, 100}, Unknown},

		{"diverged branches", Position{5, 9000}, Position{2, 500}, Lost},
		{"diverged branches, the other way", Position{3, 9000}, Position{5, 650}, Unknown},
		{"diverged branches, before both switches", Position{5, 9000}, Position{2, 400}, Satisfied},
		{"diverged branches, between the switches", Position{5, 9000}, Position{2, 401}, Lost},

		{"behind the switch, wanted past it", Position{1, 300}, Position{2, 450}, Behind},
		{"exactly at the switch, wanted past it", Position{1, 400}, Position{2, 450}, Behind},
		{"behind the switch, wanted behind it", Position{1, 300}, Position{2, 350}, Behind},
		{"behind the switch, wanted and there", Position{1, 350}, Position{2, 350}, Satisfied},
		{"ran past the switch, wanted behind it", Position{1, 500}, Position{2, 350}, Satisfied},
		// Its log is another one from the switch on: it must be made anew.
		{"ran past the switch, wanted past it", Position{1, 500}, Position{2, 450}, Unknown},
		{"two promotions behind", Position{1, 300}, Position{3, 750}, Behind},
		{"carried over two promotions", Position{1, 300}, Position{3, 300}, Satisfied},
	} {
		if got := h.Reaches(c.have, c.want); got != c.proof {
			t.Errorf("%s: Reaches(have %v, want %v) = %v, want %v", c.what, c.have, c.want, got, c.proof)
		}
	}
}

// More replayed never proves less, and Lost does not depend on how much was
// replayed.
func TestReachesIsMonotonic(t *testing.T) {
	h := History{{From: 1, To: 2, At: 4}, {From: 2, To: 3, At: 7}, {From: 1, To: 5, At: 6}}
	for have := uint32(1); have <= 6; have++ {
		for want := uint32(1); want <= 6; want++ {
			for w := LSN(1); w < 10; w++ {
				proven := false
				for l := LSN(1); l < 10; l++ {
					proof := h.Reaches(Position{have, l}, Position{want, w})
					if proven && proof != Satisfied {
						t.Errorf("have %d:%d loses the proof of %d:%d: %v", have, l, want, w, proof)
					}
					proven = proof == Satisfied
					if first := h.Reaches(Position{have, 1}, Position{want, w}); (proof == Lost) != (first == Lost) {
						t.Errorf("have %d:%d, want %d:%d: %v, but %v with 1 replayed", have, l, want, w, proof, first)
					}
				}
			}
		}
	}
}

func TestHistoryWith(t *testing.T) {
	first := History{}.With(Switch{From: 1, To: 2, At: 400})
	second := first.With(Switch{From: 2, To: 3, At: 700})
	third := first.With(Switch{From: 1, To: 4, At: 300})
	if len(first) != 1 || len(second) != 2 || len(third) != 2 || second[1].To != 3 || third[1].To != 4 {
		t.Errorf("With changes a history in place: %v, %v, %v", first, second, third)
	}
	if again := second.With(Switch{From: 1, To: 3, At: 1}); len(again) != 2 || again[1].From != 2 {
		t.Errorf("With changed what was known of timeline 3: %v", again)
	}
	for _, s := range []Switch{{From: 2, To: 2, At: 1}, {From: 3, To: 2, At: 1}} {
		if got := (History{}).With(s); len(got) != 0 {
			t.Errorf("With(%v) = %v, want it refused: no timeline is older than the one it left", s, got)
		}
	}
	if got := second.Left(1); got != 400 {
		t.Errorf("Left(1) = %d, want 400", got)
	}
	if got := second.Left(3); got != 0 {
		t.Errorf("Left(3) = %d, want 0: nothing has left it", got)
	}
}
