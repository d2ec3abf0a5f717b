package service_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
	"github.com/pgtide/pgtide/lab"
)

// The tests of this package share one cluster: a primary and a replica.
var (
	cluster *lab.Cluster
	db      *pgtide.DB
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if cluster, err = lab.Start(ctx, lab.Options{Replicas: 1}); err != nil {
		return 1, err
	}
	defer cluster.Close()
	if db, err = pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()}); err != nil {
		return 1, err
	}
	defer db.Close()
	if err := service.Migrate(ctx, db); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
