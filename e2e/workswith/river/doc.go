// Package river shows River's job queue on a pgtide cluster:
//
//	pool, err := db.PrimaryPool()
//	client, err := river.NewClient(riverpgxv5.New(pool), config)
//	_, err = client.InsertTx(ctx, tx, args, nil) // tx from db.Begin
//
// A queue lives on the primary, and the pool leads there, also after a failover;
// what jobs read can come from replicas. Stop the client before db is closed. A
// process that only adds jobs in transactions needs no pool: riverpgxv5.New(nil).
//
// What a job reads is for its worker to say, within Work:
//
//   - As it is, a read sees everything committed before River took the job, for
//     River writes through the pool whenever it takes one. This keeps most reads
//     of a busy queue at the primary.
//   - pgtide.WithToken(ctx, args.Token) sees what the session had written that
//     put its TokenFrom into the arguments. A transaction's own token is known
//     after its commit, so it cannot be in a job that InsertTx adds to it.
//   - pgtide.WithToken with a token of db.CurrentToken sees everything committed
//     before that call, for one round trip.
//
// Start the client with a context without a session: all jobs would share it.
package river
