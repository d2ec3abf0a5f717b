package lab_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// How do I see a read that is too early?
func ExampleStart() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	primary, err := pgx.Connect(ctx, cluster.Primary().DSN())
	if err != nil {
		log.Print(err)
		return
	}
	defer primary.Close(ctx)
	replica := cluster.Replicas()[0]
	reader, err := pgx.Connect(ctx, replica.DSN())
	if err != nil {
		log.Print(err)
		return
	}
	defer reader.Close(ctx)

	count := func() (n int) {
		if err := reader.QueryRow(ctx, "select count(*) from message").Scan(&n); err != nil {
			log.Print(err)
		}
		return n
	}
	do := func(err error) {
		if err != nil {
			log.Print(err)
		}
	}
	_, err = primary.Exec(ctx, "create table message (body text)")
	do(err)
	do(cluster.WaitCaughtUp(ctx))

	do(replica.PauseReplay(ctx))
	_, err = primary.Exec(ctx, "insert into message values ('hello')")
	do(err)
	fmt.Println("paused:", count())

	do(replica.ResumeReplay(ctx))
	do(cluster.WaitCaughtUp(ctx))
	fmt.Println("caught up:", count())
	// Output:
	// paused: 0
	// caught up: 1
}
