package pgtide_test

import (
	"errors"
	"testing"

	"github.com/pgtide/pgtide"
)

func TestHints(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{})
	replica := shared.Replicas()[1].Name()
	ctx := pgtide.NewSession(t.Context())
	for _, test := range []struct {
		sql    string
		role   pgtide.Role
		node   string
		reason pgtide.Reason
	}{
		{"/* pgtide: primary */ select 1", pgtide.RolePrimary, "", pgtide.ReasonForced},
		{"/* pgtide: replica */ select 1", pgtide.RoleReplica, "", ""},
		{"/* pgtide: node=" + replica + " */ select 1", pgtide.RoleReplica, replica, pgtide.ReasonNamed},
		{"/* pgtide: max_staleness=5s */ select 1", pgtide.RoleReplica, "", ""},
		{"/* pgtide: session */ select 1", pgtide.RolePrimary, "", pgtide.ReasonSessionBound},
		{"/* pgtide: replika */ select 1", pgtide.RolePrimary, "", ""},
		{"/* pgtide: replica */ insert into message (text) values ('x')", pgtide.RolePrimary, "", pgtide.ReasonWrite},
		{"select 1 /* pgtide: primary */", pgtide.RoleReplica, "", ""},
	} {
		if _, err := db.Exec(ctx, test.sql); err != nil {
			t.Errorf("%s: %v", test.sql, err)
			continue
		}
		if d := last(t, ctx); d.Role != test.role || test.node != "" && d.Node != test.node || test.reason != "" && d.Reason != test.reason {
			t.Errorf("%s: %v, want %s %s %s", test.sql, d, test.role, test.node, test.reason)
		}
	}
	if _, err := db.Exec(ctx, "/* pgtide: node=nowhere */ select 1"); !errors.Is(err, pgtide.ErrUnknownNode) {
		t.Errorf("hint of an unknown node: %v, want ErrUnknownNode", err)
	}
	if _, err := db.Exec(pgtide.OnPrimary(ctx), "/* pgtide: replica */ select 1"); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica {
		t.Errorf("a hint inside OnPrimary: %v, want the hint to hold", d)
	}
}
