// Package topology is what pgtide knows of a cluster: its nodes, their roles,
// timelines and positions, and how stale each replica is.
//
// It is pure. A [Tracker] folds [Observation] values, made elsewhere, into
// immutable [View] values. Nothing here reads a clock, opens a connection or
// starts a goroutine; every time is a monotonic offset handed in by the caller
// (see [Observation.Start]), so that a simulator can drive the same code.
//
// # Rules kept here
//
//   - A position is a (timeline, LSN) pair. An LSN alone proves nothing after a
//     failover: a lost write then looks replayed.
//   - A replica is as stale as the newest primary sample it has replayed. No
//     clock of another machine is used. Unknown is never fresh.
//   - The primary is the node out of recovery on the newest timeline ever seen.
//     Two such nodes cannot be ordered: that is a split brain, and there is no
//     primary until it is mended.
package topology
