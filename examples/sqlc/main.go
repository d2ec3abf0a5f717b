// Sqlc places an order and lists all orders through what sqlc generated for pgx:
// store.New takes a pgtide.DB where it would take a pool. It starts a cluster of its
// own.
//
//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/examples/sqlc/store"
	"github.com/pgtide/pgtide/lab"
)

//go:embed schema.sql
var schema string

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
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()})
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, schema); err != nil {
		return err
	}
	return shop(pgtide.NewSession(ctx), store.New(db), out)
}

// shop places an order and prints all there are.
func shop(ctx context.Context, queries *store.Queries, out io.Writer) error {
	if _, err := queries.PlaceOrder(ctx, "tea"); err != nil {
		return err
	}
	orders, err := queries.ListOrders(ctx)
	if err != nil {
		return err
	}
	for _, o := range orders {
		fmt.Fprintln(out, o.Item)
	}
	return nil
}
