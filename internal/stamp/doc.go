// Package stamp learns the WAL position of a write without a round trip.
//
// The position that covers a commit can only be asked for after the commit.
// [Conn] sits below the driver's messages and sends the question in the same packet as
// the request that commits; on the way back it takes the answer out of the
// stream and hands the driver the rest. The driver, its statement cache, its
// tracers and its types work as if nothing had happened, whatever the
// operation: one statement, a batch, a copy or a commit.
//
// The messages are those of the frontend/backend protocol 3.0,
// https://www.postgresql.org/docs/current/protocol-message-formats.html.
package stamp
