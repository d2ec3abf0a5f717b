// Package pgtide is a pool over a PostgreSQL primary and its read replicas
// whose reads are never stale.
//
// A [DB] has the methods of a pgx pool. Writes go to the primary and reads to
// replicas, and a read only goes to a replica that is proven to have what the
// reader must see: every commit leaves a position in the write-ahead log with
// its session, and every replica's replay position is watched.
//
//	db, err := pgtide.Open(ctx, pgtide.Options{DSN: "postgres://app@a,b,c/shop"})
//	ctx = pgtide.NewSession(ctx)
//	_, err = db.Exec(ctx, "insert into message (text) values ($1)", "hi")
//	err = db.QueryRow(ctx, "select text from message").Scan(&text)
//
// # What is promised
//
// Within a session (see [NewSession]) a read sees all that the session wrote
// before, on whatever node it runs, and in whatever process, if the session's
// token is carried there ([TokenFrom], [WithToken], [Keys]). [Consistency]
// says how much more or less a read may ask for.
//
// Outside any session a read sees everything that was written before it
// through the same DB. Work done by other processes may be missing for as long
// as [Options.MaxStaleness] allows.
//
// A write is never run twice. One that was sent and not answered returns
// [ErrOutcomeUnknown]. A write that a failover lost is told to the session
// that made it: see [Lost].
//
// # Where a call goes
//
//  1. To the node that the context names ([OnNode]).
//  2. In a transaction or on an acquired connection: to the node it began on.
//  3. To the primary or a replica, if the context says so ([OnPrimary],
//     [OnReplica]).
//  4. To the primary, if the statement is not surely a read: it writes, acts
//     on the server session, or is not understood.
//  5. To a replica that is up, not older than [Options.MaxStaleness], and
//     proven to have replayed what the session must see: the one it read from
//     last, else the less busy of two.
//  6. If there is none but one is expected to get there within
//     [Options.WaitBudget]: there, after waiting.
//  7. To the primary, within [Options.SpillLimit].
//
// A comment in front of a statement can say what a context says, for those
// who cannot reach the context: /* pgtide: primary */, replica, node=b,
// max_staleness=500ms, session. Other comments may stand before it.
//
// A replica that refuses a statement as a write has the last word: it is run
// on the primary, and remembered. Each decision has a [Reason]; [Explain] and
// [Hooks] show it.
//
// [Options.Shadow] decides so and sends everything to the primary all the same;
// [Options.ReadShare] and [WithReadShare] let a share of the reads go.
//
// # Errors
//
// An error of the server is returned as pgx returns it. Before that, a call is
// made again on another node if it was never sent, or if it is a read and
// nothing of its result was handed out. When there is no primary, calls wait
// for one, at most [Options.FailoverWait], and then fail with [ErrNoPrimary].
// When two nodes accept writes and cannot be ordered, writes fail with
// [ErrSplitBrain]. A transaction that the server cancelled for the sake of another
// is run again only by [DB.RetryTx].
//
// # Concurrency
//
// A DB, a session and a [Token] may be used by any number of goroutines at
// once. The decision where a call goes takes no lock, makes no round trip and
// allocates nothing; a session keeps its record of decisions under a lock of
// its own.
package pgtide
