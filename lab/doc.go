// Package lab runs real PostgreSQL clusters on this machine: a primary and
// streaming replicas from the installed server programs, with faults on call.
// It needs no container, no root rights and no network beyond loopback.
//
//	cluster, err := lab.Start(ctx, lab.Options{Replicas: 2})
//	if err != nil {
//		return err
//	}
//	defer cluster.Close()
//	pool, err := pgxpool.New(ctx, cluster.Primary().DSN())
//
// # What a cluster is
//
// The nodes are node1, node2 and so on; node1 is the first primary. A node
// keeps its name and port for life, whatever its role, and the role is always
// asked for, never remembered. Each node listens on 127.0.0.1, on a port that
// no other lab on this machine chooses at the same time, and logs to its own
// file. Subscribers, which follow by logical replication, are nodes too, named
// subscriber1 and so on. There are three roles: the application's, which owns the application's
// database and has no rights beyond pg_monitor; one for replication; and the
// superuser postgres, for tests and tools.
//
// The servers behave as in production, with synchronous_commit on and
// autovacuum running, but for durability, which is off unless asked for, and
// for sizes: small buffers, at most 100 connections, and for wal_level, which is
// logical. Replicas use no slots; a primary keeps 512 MB of WAL for them.
//
// # Modes
//
// Replication is asynchronous unless [Options.Synchronous] or
// [Cluster.SetSynchronous] make commits wait for all replicas or for some:
// until they have written a commit, or until they show it. Then a replica that
// is killed makes commits hang.
//
// [Cluster.AddSubscriber] adds a server of its own, also of another version of
// PostgreSQL, that subscribes to all of the primary's tables or to some.
//
// # Faults
//
// [Node.SetApplyDelay] makes a replica late by a time, [Node.PauseReplay]
// stops it from applying, [Node.Cut] severs its replication link;
// [Node.Stop], [Node.Kill] and [Node.Freeze] take a server away in three ways,
// and [Node.Start], [Node.Thaw], [Node.Heal] and [Node.ResumeReplay] undo
// them. [Cluster.Promote] fails over and [Node.Rejoin] brings an old primary
// back; [Node.Resubscribe] lets a subscriber follow after that. Each returns once
// the fault is there, not when it has been asked for.
//
// # Who the servers live with
//
// The servers die with the process that started them, however it dies: they
// run under a small shell that holds one end of a pipe and kills them, frozen
// or not, when the other end closes. [Options.Detach] and [Cluster.Detach]
// let them live on; [Open] finds such a cluster by its folder. [Cluster.Close]
// stops the servers and removes the folder if it was a temporary one. Left
// behind by a killed process, a temporary folder stays for ten minutes at
// least and is removed by a later Start.
//
// # What it needs
//
// Linux or macOS; elsewhere everything builds and Start returns
// [ErrUnsupported]. PostgreSQL 14 or newer, of which only the programs initdb
// and postgres are used. They are looked for in the folder that PGTIDE_PGBIN
// names, on PATH, where the packages of Debian, RPM, Homebrew and Postgres.app
// put them, and below postgres/*/bin in the cache folder. Root does not run
// the servers, which PostgreSQL refuses, but the user postgres or else nobody.
//
// The first start runs initdb, later ones copy its result from the cache
// folder (PGTIDE_CACHE, by default pgtide in the user's cache folder and
// /var/cache/pgtide for root), each time under a new system identifier. The
// cache may be deleted at any time. On Linux a temporary cluster is put into
// memory, below /dev/shm, if 8 GB are free there and TMPDIR is not set.
//
// # Limits
//
// With [Trust] any local program may connect to a cluster as anybody. Slots
// are not carried over to a new primary (failover slots of PostgreSQL 17), which
// would take slots and hot_standby_feedback on every replica.
// Tablespaces outside the data directory are not supported, as all nodes share
// one machine.
package lab
