package lab_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// How do I get a server that follows by logical replication?
func ExampleCluster_AddSubscriber() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cluster, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	if err := insertAndCount(ctx, cluster); err != nil {
		log.Print(err)
	}
	// Output: on subscriber1: 2
}

func insertAndCount(ctx context.Context, cluster *lab.Cluster) error {
	primary, err := pgx.Connect(ctx, cluster.Primary().DSN())
	if err != nil {
		return err
	}
	defer primary.Close(ctx)
	if _, err := primary.Exec(ctx, "create table message (body text); insert into message values ('copied')"); err != nil {
		return err
	}
	// BinDir may lead to another version of PostgreSQL.
	subscriber, err := cluster.AddSubscriber(ctx, lab.SubscriberOptions{Tables: []string{"message"}})
	if err != nil {
		return err
	}
	if _, err := primary.Exec(ctx, "insert into message values ('followed')"); err != nil {
		return err
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	reader, err := pgx.Connect(ctx, subscriber.DSN())
	if err != nil {
		return err
	}
	defer reader.Close(ctx)
	var rows int
	if err := reader.QueryRow(ctx, "select count(*) from message").Scan(&rows); err != nil {
		return err
	}
	fmt.Printf("on %s: %d\n", subscriber.Name(), rows)
	return nil
}

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
