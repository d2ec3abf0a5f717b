// Quickstart writes a row on the primary and reads it back from a replica.
// It starts a cluster of its own; give PGTIDE_DSN to use another.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

func main() {
	ctx := context.Background()
	dsn := os.Getenv("PGTIDE_DSN")
	if dsn == "" {
		cluster, err := lab.Start(ctx, lab.Options{Replicas: 2})
		if err != nil {
			log.Fatal(err)
		}
		defer cluster.Close()
		dsn = cluster.DSN()
	}
	if err := run(ctx, dsn); err != nil {
		log.Print(err)
	}
}

func run(ctx context.Context, dsn string) error {
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: dsn}) // postgres://app@a,b,c/shop
	if err != nil {
		return err
	}
	defer db.Close()

	ctx = pgtide.NewSession(ctx) // one unit of work: a request, a job
	if _, err := db.Exec(ctx, "create table if not exists message (text text)"); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, "insert into message values ($1)", "hi"); err != nil {
		return err // went to the primary; the session knows its WAL position
	}
	var text string
	if err := db.QueryRow(ctx, "select text from message").Scan(&text); err != nil {
		return err // went to a replica that has replayed that position
	}
	for _, decision := range pgtide.Explain(ctx) {
		fmt.Println(decision)
	}
	return nil
}
