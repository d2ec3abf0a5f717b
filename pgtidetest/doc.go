// Package pgtidetest gives a Go test a database of its own on real PostgreSQL
// servers, replicated for real, with replication lag and faults on demand.
//
//	func TestOrder(t *testing.T) {
//		t.Parallel()
//		tide := pgtidetest.New(t)
//		tide.Freeze() // from here on the replicas apply nothing
//		ctx := pgtide.NewSession(t.Context())
//		placeOrder(ctx, tide.DB)
//		showOrder(ctx, tide.DB) // must find the order all the same
//		pgtidetest.ServedBy(t, ctx, pgtide.RolePrimary)
//	}
//
// A [Tide] is a [pgtide.DB] on a new database, which is on the primary and, by
// streaming replication, on two replicas; [Tide.SQL] is the same as a *sql.DB.
// Everything ends with the test. [Main] says what the database begins with.
//
// # Lag
//
// [Tide.Freeze] stops replay until [Tide.Thaw], [Tide.Delay] makes it late by a
// time, and [Tide.Step] lets through exactly what has been committed and freezes
// again. [Tide.WaitReplicas] waits until all that is committed is visible, by
// position. They hit no other test: each test has a cluster to itself.
//
// # Faults
//
// [Tide.Kill], [Tide.FreezeNode], [Tide.Cut] and [Tide.Promote] are undone when
// the test ends, however it ends. The cluster is then checked, and not used again
// if it is not as good as new, as after a promotion.
//
// # Asserts
//
// [ServedBy], [Tide.NoPrimaryReads] and [Tide.NoWrites]. A test that fails logs
// where its latest statements went and why, with the line that made each, and how
// to open its database with psql.
//
// # Finding stale reads
//
// [Run] and [Handler] run code twice, on whatever pools it opens: with every
// replica frozen, then with every replica up to date. They fail the test with the
// statement, file and line of each read that went to a replica which lacked what
// the code had written before, or that showed other rows. [Finder] says more, and
// returns findings instead of failing. [Conformance] holds a front of your own,
// such as an adapter for an ORM, to the promises of pgtide.
//
// # Where the clusters come from
//
// The first test that needs a cluster starts it, in a quarter of a second, with
// the server programs that package lab finds; PGTIDE_PGBIN or PGTIDE_PGVERSION
// choose others. Clusters are shared by all test binaries of a user, as in
// go test ./..., each by one test at a time. There are as many as processors, but
// at least 2 and at most 16 (PGTIDE_TEST_CLUSTERS); a test waits for a free one, except for a
// subtest of a test that holds one, and except when nothing moves for ten
// seconds.
//
// The servers belong to a keeper: a process that the first test binary starts
// from its own program file, before any test or TestMain runs in it. It ends,
// and the servers with it, when no test has used them for ten seconds
// (PGTIDE_TEST_LINGER), or for ten minutes after a test has failed
// (PGTIDE_TEST_KEEP), so that its database can be looked into. A killed test
// binary is noticed at once and its database dropped; servers of a killed keeper
// die with it, and its folders are removed by the next. Keeper and tests meet in
// a folder that only the user can enter (PGTIDE_TEST_DIR).
//
// The servers run as those of package lab do, but without autovacuum: nothing
// writes but the test.
//
// # An existing cluster
//
// With PGTIDE_TEST_DSN or [Options].DSN databases are made on a cluster that runs
// already. Tests take turns then, and it cannot be broken.
//
// # Templates
//
// The database of a test is a copy of one that [Options].Schema and
// [Options].Migrate have filled once for each cluster, whatever the number of tests
// and processes. It gets its name only when it is finished, so that one that was
// not is never used.
//
// # Limits
//
// Linux and macOS, as package lab; elsewhere with an existing cluster. Roles and
// other things outside of a database that a test makes as a superuser stay for
// the tests that come after.
package pgtidetest
