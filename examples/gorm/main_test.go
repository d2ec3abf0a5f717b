package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestMain(m *testing.M) {
	pgtidetest.Main(m, pgtidetest.Options{
		Schema: "create table messages (id bigserial primary key, text text not null)",
	})
}

// talk is the code under test.
func talk(t testing.TB, g *gorm.DB) {
	t.Helper()
	if err := post(g, "hello"); err != nil {
		t.Fatal(err)
	}
	if texts, err := list(g); err != nil || len(texts) != 1 {
		t.Errorf("the list is %q, %v; want the message", texts, err)
	}
}

func TestTalk(t *testing.T) {
	pgtidetest.Run(t, func(t testing.TB, tide *pgtidetest.Tide) {
		g, err := open(tide.DB)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, g.WithContext(pgtide.NewSession(t.Context())))
	})
}

// GORM's own resolver sends each read to a replica, also that of a row that was
// written just before.
func TestResolverIsStale(t *testing.T) {
	report := pgtidetest.Finder{}.Find(t, func(t testing.TB, tide *pgtidetest.Tide) {
		g, err := gorm.Open(postgres.Open(tide.DSN(tide.Primary())), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Use(dbresolver.Register(dbresolver.Config{
			Replicas: []gorm.Dialector{postgres.Open(tide.DSN(tide.Replicas()[0]))},
		})); err != nil {
			t.Fatal(err)
		}
		talk(t, g.WithContext(t.Context()))
	})
	if len(report.Findings) != 1 {
		t.Fatalf("findings %v, want one\n%s", report.Findings, report.Trace)
	}
	found := report.Findings[0]
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if line := strings.Split(string(text), "\n")[found.Line-1]; filepath.Base(found.File) != "main.go" || !strings.Contains(line, "Pluck") {
		t.Errorf("the read is at %s:%d %q, want the line of Pluck in main.go", found.File, found.Line, line)
	}
	if !strings.Contains(report.Frozen, "want the message") || report.Fresh != "" {
		t.Errorf("with frozen replicas it says %q, with fresh ones %q; want the first alone to fail", report.Frozen, report.Fresh)
	}
}

func TestProgram(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil || out.String() != "[hello]\n" {
		t.Errorf("it prints %q, %v", &out, err)
	}
}
