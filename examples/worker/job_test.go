package main

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestMain(m *testing.M) {
	pgtidetest.Main(m, pgtidetest.Options{Schema: schema})
}

// order returns a test of both processes. The web process places an order, in a
// session if it is to leave a token.
func order(session bool) func(t testing.TB, tide *pgtidetest.Tide) {
	return func(t testing.TB, tide *pgtidetest.Tide) {
		worker := tide.Open(pgtide.Options{})
		ctx := t.Context()
		if session {
			ctx = pgtide.NewSession(ctx)
		}
		if err := placeOrder(ctx, tide.DB, "tea"); err != nil {
			t.Fatal(err)
		}
		if receipt, err := work(context.Background(), worker); err != nil || receipt != "order 1: tea" {
			t.Errorf("the receipt is %q, %v", receipt, err)
		}
	}
}

func TestOrder(t *testing.T) {
	pgtidetest.Run(t, order(true))
}

// Without its token the job does not find its order on a replica that lags.
func TestTokenIsNeeded(t *testing.T) {
	report := pgtidetest.Finder{}.Find(t, order(false))
	if report.Frozen == "" || report.Fresh != "" {
		t.Errorf("with frozen replicas it says %q, with fresh ones %q; want the first alone to fail", report.Frozen, report.Fresh)
	}
	if len(report.Findings) != 1 || filepath.Base(report.Findings[0].File) != "job.go" {
		t.Errorf("findings %v, want one in job.go", report.Findings)
	}
}

func TestProgram(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil || out.String() != "order 1: tea\n" {
		t.Errorf("it prints %q, %v", &out, err)
	}
}
