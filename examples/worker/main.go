// Worker hands work from a web process to a worker process by a table of jobs. The
// worker reads from replicas, and sees what the order's author wrote, because each
// job carries the token of the session that added it. It starts a cluster of its
// own and does one job.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		return err
	}
	defer cluster.Close()
	web, err := pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()})
	if err != nil {
		return err
	}
	defer web.Close()
	if _, err := web.Exec(ctx, schema); err != nil {
		return err
	}
	worker, err := pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()}) // another process, as a rule
	if err != nil {
		return err
	}
	defer worker.Close()
	if err := placeOrder(pgtide.NewSession(ctx), web, "tea"); err != nil {
		return err
	}
	receipt, err := work(ctx, worker)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, receipt)
	return nil
}
