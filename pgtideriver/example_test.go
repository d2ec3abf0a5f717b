package pgtideriver_test

import (
	"context"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideriver"
)

type receiptArgs struct {
	Purchase int64 `json:"purchase"`
}

func (receiptArgs) Kind() string { return "receipt" }

// receiptWorker finds the purchase, on whichever replica it looks.
type receiptWorker struct {
	river.WorkerDefaults[receiptArgs]
	db *pgtide.DB
}

func (w *receiptWorker) Work(ctx context.Context, job *river.Job[receiptArgs]) error {
	var item string
	return w.db.QueryRow(ctx, "select item from purchase where id = $1", job.Args.Purchase).Scan(&item)
}

// A job is added in the transaction that it is about.
func Example() {
	ctx := context.Background()
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := db.PrimaryPool()
	if err != nil {
		log.Fatal(err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &receiptWorker{db: db})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Middleware: []rivertype.Middleware{pgtideriver.New(db, pgtideriver.Options{})},
		Queues:     map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers:    workers,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Start(ctx); err != nil {
		log.Fatal(err)
	}

	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var args receiptArgs
		if err := tx.QueryRow(ctx, "insert into purchase (item) values ('tea') returning id").Scan(&args.Purchase); err != nil {
			return err
		}
		_, err := client.InsertTx(ctx, tx, args, nil)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
