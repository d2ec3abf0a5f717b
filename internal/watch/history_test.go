package watch

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/topology"
	"github.com/pgtide/pgtide/lab"
)

func TestParseHistory(t *testing.T) {
	for text, want := range map[string][]topology.Switch{
		"1\t0/3000148\tno recovery target specified\n":           {{From: 1, To: 5, At: 0x3000148}},
		"1\t0/A\tx\n\n2\t0/B\tbefore 2026\n# remark\n4\t1/C\t\n": {{From: 1, To: 2, At: 0xA}, {From: 2, To: 4, At: 0xB}, {From: 4, To: 5, At: 0x1_0000_000C}},
		"": nil,
	} {
		if got, err := parseHistory(text, 5); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x\t0/A\n", "1\n", "1\tA\n", "0\t0/A\n", "6\t0/A\n", "3\t0/A\n2\t0/B\n", "5\t0/A\n", "-1\t0/A\n"} {
		if got, err := parseHistory(text, 5); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add("1\t0/3000148\tno recovery target specified\n2\t0/4000000\tx\n", uint32(3))
	f.Fuzz(func(t *testing.T, text string, timeline uint32) {
		switches, err := parseHistory(text, timeline)
		for i, s := range switches {
			if err == nil && (s.From >= s.To || i > 0 && switches[i-1].To != s.From || i == len(switches)-1 && s.To != timeline) {
				t.Errorf("%q for timeline %d is read as %v", text, timeline, switches)
			}
		}
	})
}

func TestHistoryIsAskedFor(t *testing.T) {
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// One that sees the promotion infers the switch; one that comes later asks.
	witness := watchNodes(t, every(20*time.Millisecond), nodesOf(t, c)...)
	await(t, witness, "the cluster", func(v *topology.View) bool { return v.Primary == 0 && v.Replicas == 0b110 })
	old, next := c.Primary(), c.Replicas()[0]
	if err := c.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), next.Name()); err != nil {
		t.Fatal(err)
	}
	seen := await(t, witness, "the promotion", func(v *topology.View) bool { return v.History.Knows(2) })

	plain := watchNodes(t, every(20*time.Millisecond), nodesOf(t, c)...)
	v := await(t, plain, "the new primary", func(v *topology.View) bool { return v.Primary == 1 && plain.Probes(1) > 5 })
	if v.History.Knows(2) {
		t.Errorf("a role that may not ask for the history knows it: %v", v.History)
	}
	super, err := pgx.Connect(t.Context(), next.SuperDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.Exec(t.Context(), "alter role "+c.AppRole()+" replication"); err != nil {
		t.Fatal(err)
	}
	late := watchNodes(t, every(20*time.Millisecond), nodesOf(t, c)...)
	v = await(t, late, "the history", func(v *topology.View) bool { return v.History.Knows(2) })
	if got, want := v.History[0], seen.History[0]; got.From != want.From || got.To != want.To || got.At != want.At {
		t.Errorf("the history says %v, who saw it says %v", got, want)
	}
}

func nodesOf(t *testing.T, c *lab.Cluster) []Node {
	t.Helper()
	var nodes []Node
	for _, n := range c.Nodes() {
		nodes = append(nodes, node(t, n.Name(), n.DSN()))
	}
	return nodes
}
