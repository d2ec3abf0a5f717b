// Package front is the door through which the other fronts of this module
// reach the calls of a pgtide.DB: what database/sql needs of them is nothing
// that users of the pool should see.
package front

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Connection is a connection out of a node's pool.
type Connection interface {
	Conn() *pgx.Conn
	Release() // gives it back; it is called once
}

// Take takes a connection out of a pool.
type Take func(context.Context, *pgxpool.Pool) (Connection, error)

// Pool makes the calls of one DB.
type Pool interface {
	// Statement is a call for one statement. rewritten is what Rewritten says of
	// its arguments.
	Statement(ctx context.Context, sql string, rewritten bool, take Take) Call
	// Describe is a call that prepares a statement where it would run.
	Describe(ctx context.Context, sql string, take Take) Call
	// Transaction is a call that begins a transaction.
	Transaction(ctx context.Context, o pgx.TxOptions, take Take) Call
	// Hold is a call for a connection that may be written to.
	Hold(ctx context.Context, take Take) Call
}

// Call is one call on its way. Its life is: Acquire, use the connection, Done,
// and again while Done says so. A connection may be held for more statements
// between the two.
type Call interface {
	// Acquire takes a connection to the node of the next attempt. The context it
	// returns is the one to make the attempt with.
	Acquire(ctx context.Context) (context.Context, error)
	// Done ends the attempt with its error and gives the connection back. again
	// says to make another; else the error is the caller's.
	Done(err error) (again bool, _ error)

	// Hand notes that a part of the result is handed out: nothing is made again
	// from now on.
	Hand()

	// Bound reports whether the statement acts on the server session, or may: the
	// next one must see it.
	Bound() bool
	// Pin notes a further statement on the connection, made with ctx, and Note its
	// end. An empty statement is one that does nothing; rewritten is as of Statement.
	// An error says that it must
	// not be sent.
	Pin(ctx context.Context, sql string, rewritten bool) error
	Note(err error)
	// Spoil says that the connection must be closed when it is given back.
	Spoil()
	// Commit ends the transaction that the call began by calling do, gives the
	// connection back and returns the caller's error.
	Commit(ctx context.Context, do func() error) error
	// Rollback does the same without a commit.
	Rollback(do func() error) error
}

// Of returns the calls of a *pgtide.DB. That package sets it.
var Of func(db any) Pool
