package pgtidetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestKill(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	one, two := tide.Replicas()[0], tide.Replicas()[1]
	tide.Kill(one)
	write(t, tide, "a")
	tide.WaitReplicas(t.Context()) // for the one that is left
	wantShown(t, tide, "a", two)
	tide.StartNode(one)
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a", one)
	tide.Freeze(one) // on a new connection
	write(t, tide, "b")
	wantShown(t, tide, "a", one)
}

func TestFreezeNode(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	node := tide.Replicas()[0]
	tide.FreezeNode(node)
	ctx, cancel := context.WithTimeout(pgtide.OnNode(t.Context(), node), 200*time.Millisecond)
	defer cancel()
	if _, err := tide.Exec(ctx, "select 1"); err == nil {
		t.Error("a frozen server answers")
	}
	tide.ThawNode(node)
	write(t, tide, "a")
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a", node)
}

func TestCut(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	one, two := tide.Replicas()[0], tide.Replicas()[1]
	tide.Cut(one)
	ctx := pgtide.NewSession(t.Context())
	if _, err := tide.Exec(ctx, "insert into message values ('a')"); err != nil {
		t.Fatal(err)
	}
	if err := tide.WaitFor(ctx, mustToken(t, ctx), two); err != nil {
		t.Fatal(err)
	}
	wantShown(t, tide, "", one)
	tide.Heal(one)
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a", one)
}

// A failover: the DB follows, and so does the rest of the kit.
func TestPromote(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	before, after := tide.Primary(), tide.Replicas()[0]
	write(t, tide, "a")
	tide.WaitReplicas(t.Context())
	tide.Kill(before)
	tide.Promote(after)
	if tide.Primary() != after {
		t.Errorf("the primary is %s, want %s", tide.Primary(), after)
	}
	write(t, tide, "b")
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a b", tide.Replicas()...)
	tide.Rejoin(before)
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a b", before)
	tide.Freeze(before)
	write(t, tide, "c")
	wantShown(t, tide, "a b", before)
}

func TestFaultOfWhat(t *testing.T) {
	t.Parallel()
	wantFatal(t, func(tb testing.TB) { pgtidetest.New(tb).Kill("node9") }, "kill", `no node "node9"`)
	wantFatal(t, func(tb testing.TB) { pgtidetest.New(tb).Cut("node1") }, "cut", "node1 is not a replica")
}

// Whatever a test did to its cluster, the next one finds it in order: the same
// one, unless it was promoted.
func TestFaultsAreUndone(t *testing.T) {
	t.Parallel()
	newProgram(t, pgtidetest.EnvClusters+"=1").mustRun(t, "undone")
}

func init() {
	scenarios["undone"] = func(t *testing.T) {
		dir := ""
		for _, c := range []struct {
			name string
			same bool
			do   func(*pgtidetest.Tide)
		}{
			{"nothing", true, func(*pgtidetest.Tide) {}},
			{"replica killed", true, func(tide *pgtidetest.Tide) { tide.Kill("node2") }},
			{"primary killed", true, func(tide *pgtidetest.Tide) { tide.Kill("node1") }},
			{"all frozen", true, func(tide *pgtidetest.Tide) {
				tide.FreezeNode("node1")
				tide.FreezeNode("node2")
				tide.FreezeNode("node3")
			}},
			{"cut, then killed", true, func(tide *pgtidetest.Tide) {
				tide.Cut("node3")
				tide.Kill("node3")
			}},
			{"replay frozen", true, func(tide *pgtidetest.Tide) { tide.Freeze() }},
			{"replay delayed", true, func(tide *pgtidetest.Tide) { tide.Delay(time.Hour) }},
			{"a setting changed", true, func(tide *pgtidetest.Tide) {
				conn := tide.Connect("node1")
				conn.Close(context.Background())
				super := superuser(t, tide, "node1")
				if _, err := super.Exec(context.Background(), "alter system set work_mem = '1MB'"); err != nil {
					t.Fatal(err)
				}
			}},
			{"promoted", false, func(tide *pgtidetest.Tide) { tide.Promote("node2") }},
			{"promoted by SQL", false, func(tide *pgtidetest.Tide) {
				if _, err := superuser(t, tide, "node3").Exec(context.Background(), "select pg_promote()"); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				tide := pgtidetest.New(t)
				dir = tide.Dir()
				c.do(tide)
			})
			t.Run("after "+c.name, func(t *testing.T) {
				tide := pgtidetest.New(t)
				if same := tide.Dir() == dir; same != c.same {
					t.Errorf("the same cluster: %v, want %v", same, c.same)
				}
				write(t, tide, "a")
				tide.WaitReplicas(t.Context())
				wantShown(t, tide, "a", "node1", "node2", "node3")
				var others int
				if err := tide.QueryRow(t.Context(), "select count(*) from pg_database where datname like 'pgtidetest%' and datname <> current_database()").Scan(&others); err != nil || others != 0 {
					t.Errorf("%d databases of other tests, %v; want none", others, err)
				}
			})
		}
	}
}
