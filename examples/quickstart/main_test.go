package main

import (
	"testing"

	"github.com/pgtide/pgtide/lab"
)

func TestRun(t *testing.T) {
	cluster, err := lab.Start(t.Context(), lab.Options{Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if err := run(t.Context(), cluster.DSN()); err != nil {
		t.Fatal(err)
	}
}
