package pgtidetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestFreeze(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	one, two := tide.Replicas()[0], tide.Replicas()[1]
	tide.Freeze(one)
	ctx := pgtide.NewSession(t.Context())
	if _, err := tide.Exec(ctx, "insert into message values ('a')"); err != nil {
		t.Fatal(err)
	}
	// The position on the other one proves that this one had the time too.
	tide.DB.WaitFor(t.Context(), mustToken(t, ctx), two)
	wantShown(t, tide, "a", two, tide.Primary())
	wantShown(t, tide, "", one)

	// The DB is the same as before and knows where to read.
	var n int
	if err := tide.QueryRow(ctx, "select count(*) from message").Scan(&n); err != nil || n != 1 {
		t.Errorf("the session sees %d rows, %v; want its own", n, err)
	}
	tide.Freeze() // all, of which one is frozen
	tide.Thaw()
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a", one, two)
}

func mustToken(t *testing.T, ctx context.Context) pgtide.Token {
	t.Helper()
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		t.Fatal("the session has no token")
	}
	return token
}

// What one test does to its replicas, others do not see.
func TestFreezeIsPrivate(t *testing.T) {
	t.Parallel()
	frozen, other := pgtidetest.New(t), pgtidetest.New(t)
	frozen.Freeze()
	write(t, frozen, "frozen")
	write(t, other, "other")
	other.WaitReplicas(t.Context())
	wantShown(t, other, "other", other.Replicas()...)
	wantShown(t, frozen, "", frozen.Replicas()...)
}

func TestStep(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	replicas := tide.Replicas()
	tide.Freeze()
	write(t, tide, "a")
	wantShown(t, tide, "", replicas...)
	tide.Step()
	write(t, tide, "b")
	write(t, tide, "c")
	wantShown(t, tide, "a", replicas...)
	tide.Step(replicas[0])
	write(t, tide, "d")
	wantShown(t, tide, "a b c", replicas[0])
	wantShown(t, tide, "a", replicas[1])
	tide.Step()
	tide.Step() // of nothing
	wantShown(t, tide, "a b c d", replicas...)

	// The first one freezes replicas that were not.
	tide.Thaw()
	tide.Step()
	write(t, tide, "e")
	wantShown(t, tide, "a b c d", replicas...)
}

// A commit that is not yet on disk has been made all the same.
func TestStepAsynchronousCommit(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.NewWith(t, pgtidetest.Options{Schema: schema, Settings: map[string]string{"synchronous_commit": "off"}})
	tide.Freeze()
	for i, want := range []string{"0", "0 1", "0 1 2"} {
		write(t, tide, want[len(want)-1:])
		tide.Step()
		write(t, tide, "z"+want)
		for _, node := range tide.Replicas() {
			if got := shown(t, tide, node); len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("step %d: %s shows %q, want %q", i, node, got, want)
			}
		}
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	const delay = 400 * time.Millisecond
	tide.Delay(delay)
	began := time.Now()
	write(t, tide, "a")
	wantShown(t, tide, "", tide.Replicas()...)
	if early := time.Since(began) > delay; early {
		t.Log("this machine is too slow to have seen the delay")
	}
	tide.WaitReplicas(t.Context())
	if took := time.Since(began); took < delay {
		t.Errorf("the replicas had the commit after %v, want %v at least", took, delay)
	}
	wantShown(t, tide, "a", tide.Replicas()...)

	// A freeze takes the delay's place and lets nothing through that it held back.
	tide.Delay(time.Hour)
	write(t, tide, "b")
	tide.Freeze()
	wantShown(t, tide, "a", tide.Replicas()...)
	tide.Step()
	wantShown(t, tide, "a b", tide.Replicas()...)
	tide.Delay(time.Hour)
	write(t, tide, "c")
	tide.Delay(0)
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "a b c", tide.Replicas()...)
}

func TestWaitReplicasSaysWhy(t *testing.T) {
	t.Parallel()
	var node string
	wantFatal(t, func(tb testing.TB) {
		tide := pgtidetest.New(tb)
		node = tide.Replicas()[1]
		tide.Freeze(node)
		write(t, tide, "a")
		ctx, cancel := context.WithTimeout(tb.Context(), 50*time.Millisecond)
		defer cancel()
		tide.WaitReplicas(ctx)
	}, "wait for the replicas", "node3 is", "bytes behind", "frozen by Freeze", "deadline exceeded")
	wantFatal(t, func(tb testing.TB) {
		tide := pgtidetest.New(tb)
		tide.Cut("node2")
		write(t, tide, "a")
		ctx, cancel := context.WithTimeout(tb.Context(), 50*time.Millisecond)
		defer cancel()
		tide.WaitReplicas(ctx)
	}, "node2 is", "bytes behind", "cut by Cut")
	wantFatal(t, func(tb testing.TB) {
		tide := pgtidetest.New(tb)
		tide.FreezeNode("node2")
		write(t, tide, "a")
		ctx, cancel := context.WithTimeout(tb.Context(), time.Nanosecond)
		defer cancel()
		tide.WaitReplicas(ctx)
	}, "node2 does not answer", "frozen by FreezeNode")
}

func TestLagOfWhat(t *testing.T) {
	t.Parallel()
	wantFatal(t, func(tb testing.TB) { pgtidetest.New(tb).Freeze("node9") }, "node9", "is not a replica", "node2, node3")
	wantFatal(t, func(tb testing.TB) { pgtidetest.New(tb).Delay(time.Second, "node1") }, "node1", "is not a replica")
	wantFatal(t, func(tb testing.TB) {
		pgtidetest.NewWith(tb, pgtidetest.Options{Replicas: -1}).Freeze()
	}, "there is no replica")
}
