package pgtide_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// shadowReads are reads that a replica would serve.
var shadowReads = map[string]func(context.Context, *pgtide.DB) error{
	"a statement": func(ctx context.Context, db *pgtide.DB) error {
		return db.QueryRow(ctx, "select count(*) from message").Scan(new(int))
	},
	"a statement that the caller sends to a replica": func(ctx context.Context, db *pgtide.DB) error {
		return db.QueryRow(pgtide.OnReplica(ctx), "select count(*) from message").Scan(new(int))
	},
	"a batch": func(ctx context.Context, db *pgtide.DB) error {
		b := &pgx.Batch{}
		b.Queue("select 1")
		return db.SendBatch(ctx, b).Close()
	},
	"a read-only transaction": func(ctx context.Context, db *pgtide.DB) error {
		return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(pgx.Tx) error { return nil })
	},
	"an acquired connection": func(ctx context.Context, db *pgtide.DB) error {
		conn, err := db.Acquire(pgtide.OnReplica(ctx))
		if err == nil {
			conn.Release()
		}
		return err
	},
}

func TestShadow(t *testing.T) {
	t.Parallel()
	var hooked []pgtide.Decision
	db := open(t, shared, pgtide.Options{Shadow: true, MaxStaleness: -1, Hooks: pgtide.Hooks{
		OnDecision: func(ctx context.Context, d pgtide.Decision) context.Context {
			hooked = append(hooked, d)
			return ctx
		},
	}})
	primary := shared.Primary().Name()
	for name, read := range shadowReads {
		ctx := pgtide.NewSession(t.Context())
		if err := read(ctx, db); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d := last(t, ctx)
		if d.Node != primary || d.Reason != pgtide.ReasonShadow || d.WouldReason != pgtide.ReasonFresh || d.WouldNode == "" || d.WouldNode == primary {
			t.Errorf("%s: %+v, want the primary in place of a fresh replica", name, d)
		}
		if text := d.String(); !strings.Contains(text, "would go to "+d.WouldNode+": fresh") {
			t.Errorf("%s: the decision reads %q", name, text)
		}
		if got := hooked[len(hooked)-1]; got != d {
			t.Errorf("%s: the hook was told %+v, want %+v", name, got, d)
		}
	}
	stat := db.Stat()
	if n := stat.Decisions[pgtide.ReasonShadow]; n != int64(len(shadowReads)) || stat.Would[pgtide.ReasonFresh] != n || len(stat.Would) != 1 {
		t.Errorf("counted %v, and what would have been %v, want %d", stat.Decisions, stat.Would, len(shadowReads))
	}
	would := int64(0)
	for _, n := range stat.Nodes {
		if n.Name == primary && n.Would != 0 {
			t.Errorf("%d reads would have gone to the primary", n.Would)
		}
		would += n.Would
	}
	if would != int64(len(shadowReads)) {
		t.Errorf("%d reads would have gone to a node, want %d", would, len(shadowReads))
	}

	// What goes to the primary anyway keeps its reason, and a name its node.
	ctx := pgtide.NewSession(t.Context())
	insert(t, ctx, db, "in shadow")
	if d := last(t, ctx); d.Reason != pgtide.ReasonWrite || d.WouldReason != "" {
		t.Errorf("a write: %+v", d)
	}
	name := shared.Replicas()[0].Name()
	if err := db.QueryRow(pgtide.WithConsistency(pgtide.OnNode(ctx, name), pgtide.Eventual), "select 1").Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	if d := last(t, ctx); d.Node != name || d.Reason != pgtide.ReasonNamed {
		t.Errorf("a read of a named node: %+v", d)
	}
}

func TestShadowNeverWaits(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{Shadow: true, SpillLimit: 1})
	pause(t, c)
	ctx := pgtide.NewSession(t.Context())
	id := insert(t, ctx, db, "unseen by the replica")
	for range 3 {
		if text := read(t, ctx, db, id); text != "unseen by the replica" {
			t.Errorf("read %q", text)
		}
		if d := last(t, ctx); d.Role != pgtide.RolePrimary || d.Waited != 0 {
			t.Errorf("a read that no replica could serve: %+v, want the primary at once", d)
		}
	}
}

func TestReadShare(t *testing.T) {
	t.Parallel()
	const calls = 400
	shares := func(t *testing.T, db *pgtide.DB, ctx context.Context) float64 {
		for range calls {
			if err := db.QueryRow(ctx, "select 1").Scan(new(int)); err != nil {
				t.Fatal(err)
			}
		}
		stat := db.Stat()
		withheld := stat.Decisions[pgtide.ReasonShadow]
		if served := stat.Decisions[pgtide.ReasonFresh]; served+withheld != calls {
			t.Fatalf("decided %v, want %d reads, fresh or in shadow", stat.Decisions, calls)
		}
		return 1 - float64(withheld)/calls
	}
	for _, test := range []struct {
		name string
		o    pgtide.Options
		ctx  context.Context
		want float64
	}{
		{"all by default", pgtide.Options{}, t.Context(), 1},
		{"a quarter", pgtide.Options{ReadShare: 0.25}, t.Context(), 0.25},
		{"none in shadow", pgtide.Options{Shadow: true}, t.Context(), 0},
		{"a route ahead of the others", pgtide.Options{Shadow: true}, pgtide.WithReadShare(t.Context(), 0.75), 0.75},
		{"a route behind the others", pgtide.Options{}, pgtide.WithReadShare(t.Context(), 0), 0},
		{"a scope inside", pgtide.Options{}, pgtide.WithReadShare(pgtide.WithReadShare(t.Context(), 0), 1), 1},
		{"nonsense", pgtide.Options{}, pgtide.WithReadShare(t.Context(), math.NaN()), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Six standard deviations, and none where there is no chance.
			test.o.MaxStaleness = -1 // other tests write all the time
			slack := 6 * math.Sqrt(test.want*(1-test.want)/calls)
			if got := shares(t, open(t, shared, test.o), test.ctx); math.Abs(got-test.want) > slack {
				t.Errorf("%.2f of the reads went to replicas, want %.2f, give or take %.2f", got, test.want, slack)
			}
		})
	}
}
