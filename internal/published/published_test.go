package published

import (
	"maps"
	"slices"
	"testing"
)

func TestLacking(t *testing.T) {
	o := NewOffer()
	for _, name := range []string{"whole", "other_shape", "not_copied", "leaf_a", "leaf_b", "leaf_c", "parent", "child", "both"} {
		o.Publish("p", "public", name, "shape")
	}
	o.Publish("p", "public", "by_root", "shape")
	o.Publish("elsewhere", "public", "not_ours", "shape")
	o.Publish("q", "public", "only_in_q", "shape")
	o.Publish("p", "archive", "moved", "shape")
	for _, name := range []string{"view_whole", "view_lacking", "view_of_view", "view_opaque", "view_loop"} {
		o.Show("public", name, "shape")
	}
	table := func(oid uint32, name string) Relation {
		return Relation{OID: oid, Schema: "public", Name: name, Kind: Table, Shape: "shape", Synced: true}
	}
	view := func(oid uint32, name string, bases ...uint32) Relation {
		return Relation{OID: oid, Schema: "public", Name: name, Kind: View, Shape: "shape", Bases: bases}
	}
	s := &Stock{Publications: []string{"p", "q"}, Relations: []Relation{
		table(1, "whole"), table(2, "other_shape"), table(3, "not_copied"), table(4, "local"), table(5, "not_ours"), table(6, "only_in_q"), table(7, "moved"),
		{OID: 8, Schema: "public", Name: "numbers", Kind: 'S'},
		{OID: 9, Schema: "public", Name: "stored", Kind: 'm', Synced: true},
		{OID: 10, Schema: "public", Name: "by_leaves", Kind: Partitioned, Children: []uint32{11, 12}}, table(11, "leaf_a"), table(12, "leaf_b"),
		{OID: 13, Schema: "public", Name: "by_some", Kind: Partitioned, Children: []uint32{12, 14}}, table(14, "leaf_c"),
		{OID: 15, Schema: "public", Name: "by_root", Kind: Partitioned, Shape: "shape", Synced: true, Children: []uint32{16}}, table(16, "root_leaf"),
		{OID: 17, Schema: "public", Name: "no_leaves", Kind: Partitioned},
		{OID: 18, Schema: "public", Name: "parent", Kind: Table, Shape: "shape", Synced: true, Children: []uint32{19}}, table(19, "child"),
		table(20, "both"), {OID: 21, Schema: "audit", Name: "both", Kind: Table},
		view(30, "view_whole", 1, 10), view(31, "view_lacking", 1, 4), view(32, "view_of_view", 31), view(33, "view_unknown", 1), view(34, "view_loop", 34),
		{OID: 35, Schema: "public", Name: "view_opaque", Kind: View, Shape: "shape", Bases: []uint32{1}, Opaque: true},
	}}
	for i := range s.Relations {
		switch r := &s.Relations[i]; r.Name {
		case "other_shape":
			r.Shape = "another"
		case "not_copied", "local", "leaf_c", "root_leaf", "child":
			r.Synced = false
		}
	}
	got := slices.Sorted(maps.Keys(s.Lacking(o).lacking))
	want := []string{"both", "by_some", "child", "leaf_c", "local", "moved", "no_leaves", "not_copied", "not_ours", "numbers",
		"other_shape", "parent", "root_leaf", "stored", "view_lacking", "view_loop", "view_of_view", "view_opaque", "view_unknown"}
	if !slices.Equal(got, want) {
		t.Errorf("lacking\n %q, want\n %q", got, want)
	}
}

func TestCatalogsOfNobodyAreFitForNothing(t *testing.T) {
	var none *Catalogs
	if got := none.Fit([]string{"t"}); got != 0 {
		t.Errorf("no catalogs: %b are fit", got)
	}
	c := Catalogs{nil, NewNames("t"), NewNames()}
	if got := c.Fit([]string{"t"}); got != 4 {
		t.Errorf("%b are fit, want the third", got)
	}
	if got := c.Fit(nil); got != 6 {
		t.Errorf("%b are fit for no name, want the second and the third", got)
	}
	if name, lacks := c.Lacks(1, []string{"u", "t"}); name != "t" || !lacks {
		t.Errorf("the second lacks %q, %v", name, lacks)
	}
	if name, lacks := c.Lacks(0, []string{"u"}); name != "" || !lacks {
		t.Errorf("the first, of which nothing is known, lacks %q, %v", name, lacks)
	}
}
