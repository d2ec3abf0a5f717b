package pgtide

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParametersOfADSN(t *testing.T) {
	for _, form := range []struct{ head, glue string }{
		{"pgtide://app@a,b:5433/shop?", "&"},
		{"postgres://app@a,b:5433/shop?sslmode=disable&", "&"},
		{"host=a,b port=5432,5433 dbname=shop user=app ", " "},
	} {
		dsn := func(parameters ...string) string { return form.head + strings.Join(parameters, form.glue) }
		given := Options{
			DSN: dsn("pgtide_consistency=session", "pgtide_max_staleness=3s", "pgtide_wait_budget=0", "pgtide_spill_limit=7",
				"pgtide_failover_wait=2s", "pgtide_failover_queue=5", "pgtide_probe_interval=50ms", "pgtide_probe_timeout=1s", "pgtide_read_share=0.5"),
			FailoverWait: time.Minute,
		}
		o, err := given.withDSN()
		if err != nil {
			t.Errorf("%s: %v", given.DSN, err)
			continue
		}
		want := Options{
			DSN: given.DSN, Consistency: Session, MaxStaleness: 3 * time.Second, WaitBudget: -1, SpillLimit: 7,
			FailoverWait: time.Minute, FailoverQueue: 5, ProbeInterval: 50 * time.Millisecond, ProbeTimeout: time.Second, ReadShare: 0.5,
		}
		if o.Consistency != want.Consistency || o.MaxStaleness != want.MaxStaleness || o.WaitBudget != want.WaitBudget || o.SpillLimit != want.SpillLimit ||
			o.FailoverWait != want.FailoverWait || o.FailoverQueue != want.FailoverQueue || o.ProbeInterval != want.ProbeInterval ||
			o.ProbeTimeout != want.ProbeTimeout || o.ReadShare != want.ReadShare || o.Shadow {
			t.Errorf("%s gives %+v, want %+v", given.DSN, o, want)
		}
		given = Options{DSN: dsn("pgtide_max_lag=1048576", "pgtide_spill_wait=0", "pgtide_balancing=round_robin", "pgtide_zone=eu-1",
			"pgtide_slow_start=3s", "pgtide_eject_factor=0", "pgtide_keep_share=0.75", "pgtide_degraded=true")}
		if o, err := given.withDSN(); err != nil || o.MaxLag != 1<<20 || o.SpillWait != -1 || o.Balancing != RoundRobin || o.Zone != "eu-1" ||
			o.SlowStart != 3*time.Second || o.EjectFactor != -1 || o.KeepShare != 0.75 || !o.Degraded {
			t.Errorf("%s gives %+v (%v)", given.DSN, o, err)
		} else if err := o.validate(); err != nil {
			t.Errorf("%s: %v", given.DSN, err)
		}
		given.MaxLag, given.SpillWait, given.Zone, given.SlowStart, given.EjectFactor, given.KeepShare = 1, 2, "us-1", 3, 4, 0.5
		if o, err := given.withDSN(); err != nil || o.MaxLag != 1 || o.SpillWait != 2 || o.Zone != "us-1" || o.SlowStart != 3 || o.EjectFactor != 4 || o.KeepShare != 0.5 {
			t.Errorf("what the program sets became %+v (%v)", o, err)
		}
		nodes, err := o.configs()
		if err != nil || len(nodes) != 2 {
			t.Errorf("%s names %d nodes (%v), want 2", given.DSN, len(nodes), err)
			continue
		}
		for _, n := range nodes {
			for name := range n.pool.ConnConfig.RuntimeParams {
				if strings.HasPrefix(name, "pgtide") {
					t.Errorf("node %q would be sent the parameter %s", n.name, name)
				}
			}
		}
		for _, share := range []string{"pgtide_shadow=true", "pgtide_read_share=0"} {
			if o, err := (Options{DSN: dsn(share)}).withDSN(); err != nil || !o.Shadow {
				t.Errorf("%s: Shadow is %v (%v), want true", share, o.Shadow, err)
			}
		}
		if _, err := (Options{DSN: dsn("pgtide_shadow=true", "pgtide_read_share=0.5")}).withDSN(); err == nil || !strings.Contains(err.Error(), "set one of them") {
			t.Errorf("a DSN that sets both pgtide_shadow and pgtide_read_share: %v, want an error", err)
		}
		// What the program sets is not the DSN's to change.
		for _, given := range []Options{{DSN: dsn("pgtide_shadow=true"), ReadShare: 0.5}, {DSN: dsn("pgtide_read_share=0"), ReadShare: 0.5}} {
			if o, err := given.withDSN(); err != nil || o.Shadow || o.ReadShare != 0.5 {
				t.Errorf("ReadShare 0.5 and %s: Shadow %v, ReadShare %v (%v)", given.DSN, o.Shadow, o.ReadShare, err)
			}
		}
		if o, err := (Options{DSN: dsn("pgtide_read_share=0.5"), Shadow: true}).withDSN(); err != nil || !o.Shadow || o.ReadShare != 0 {
			t.Errorf("Shadow and pgtide_read_share: Shadow %v, ReadShare %v (%v)", o.Shadow, o.ReadShare, err)
		}
		for parameter, part := range map[string]string{
			"pgtide_stale=1s":            "pgtide_max_staleness, pgtide_probe_interval",
			"pgtide_consistency=stronk":  "it is not eventual",
			"pgtide_max_staleness=3":     "not a duration",
			"pgtide_spill_limit=many":    "not a whole number",
			"pgtide_spill_limit=0":       "other than 0",
			"pgtide_failover_queue=0":    "other than 0",
			"pgtide_shadow=perhaps":      "neither true nor false",
			"pgtide_read_share=half":     "not a number",
			"pgtide_probe_timeout=1hour": "not a duration",
			"pgtide_spill_wait=long":     "not a duration",
			"pgtide_slow_start=7":        "not a duration",
			"pgtide_max_lag=16MB":        "not a whole number of bytes",
			"pgtide_max_lag=-5000":       "not a whole number of bytes",
			"pgtide_balancing=random":    "neither least_loaded nor round_robin",
			"pgtide_eject_factor=0.5":    "above 1",
			"pgtide_eject_factor=NaN":    "above 1",
			"pgtide_eject_factor=fast":   "above 1",
			"pgtide_keep_share=0":        "above 0",
			"pgtide_keep_share=1.01":     "above 0",
			"pgtide_keep_share=half":     "above 0",
			"pgtide_degraded=perhaps":    "neither true nor false",
		} {
			name, value, _ := strings.Cut(parameter, "=")
			_, err := (Options{DSN: dsn(parameter)}).withDSN()
			if err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v, want an error that names it and says %q", parameter, err, part)
			} else if strings.Contains(err.Error(), value) && len(value) > 3 {
				t.Errorf("%s: the error %q repeats the value", parameter, err)
			}
		}
	}
	o := Options{Nodes: []Node{{Name: "a", DSN: "postgres://a/shop?pgtide_shadow=true"}}}
	if _, err := o.configs(); err == nil || !strings.Contains(err.Error(), "pgtide_shadow") {
		t.Errorf("a parameter in the DSN of one node: %v", err)
	}
}

func TestParseConsistency(t *testing.T) {
	for _, want := range []Consistency{Eventual, ReadYourWrites, Session, Strong, BoundedStaleness(500 * time.Millisecond), BoundedStaleness(time.Hour)} {
		if got, err := ParseConsistency(want.String()); got != want || err != nil {
			t.Errorf("ParseConsistency(%q) = %v, %v", want, got, err)
		}
	}
	for text, want := range map[string]Consistency{"250ms": BoundedStaleness(250 * time.Millisecond), "0s": Strong} {
		if got, err := ParseConsistency(text); got != want || err != nil {
			t.Errorf("ParseConsistency(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "default", "invalid", "Session", "5", "-1s", "bounded_staleness", "bounded_staleness()"} {
		if got, err := ParseConsistency(text); err == nil {
			t.Errorf("ParseConsistency(%q) = %v, want an error", text, got)
		}
	}
}

func TestReadShareOptions(t *testing.T) {
	node := []Node{{Name: "a", DSN: "postgres://a/shop"}}
	for what, o := range map[string]Options{
		"both Shadow and ReadShare": {Nodes: node, Shadow: true, ReadShare: 0.5},
		"ReadShare 1.5":             {Nodes: node, ReadShare: 1.5},
		"ReadShare -0.5":            {Nodes: node, ReadShare: -0.5},
		"ReadShare NaN":             {Nodes: node, ReadShare: math.NaN()},
	} {
		if err := o.validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: validate returns %v", what, err)
		}
	}
}
