// Package pgtideriver has River's jobs see what those who added them wrote,
// whichever replica their reads go to.
//
//	pool, err := db.PrimaryPool()
//	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
//		Middleware: []rivertype.Middleware{pgtideriver.New(db, pgtideriver.Options{})},
//		...
//	})
//
// Clients that only add jobs need it for [Committed], and when they add jobs with
// the metadata of others.
//
// # What a job sees
//
// Each attempt of a job is a session of package pgtide, of its own: the worker
// uses the context it is given. The session sees all that was committed when the
// attempt began, by anybody, through pgtide or not. So it sees the whole
// transaction that the job was added in, also what that wrote after it added the
// job: there is no job to work before that is committed. It sees what was written
// before the job was added, and what attempts before have written.
//
// This costs one question to the primary for each attempt, beside those that
// River makes for each job anyhow; an attempt fails if there is no answer. It
// does not need the token of whoever adds the job, and inside a transaction there
// is none yet that covers it.
//
// Where a job that is added outside a transaction needs to see what its session
// has written and no more, [Committed] saves the question, and leaves more
// replicas to choose from: they need not have what was written since. The
// session's token then travels in the job's metadata.
//
// # When no replica has it yet
//
// [Options.OnBehind] says what happens while no replica that is up has all this:
// the attempt waits ([Wait]), the job comes later ([Snooze]), or the attempt runs
// at once ([Primary]). Whatever runs sees what it must see: reads that no
// replica can serve go to the primary.
//
// A job that is snoozed sees what was committed when it was first snoozed, so that
// a replica that always lags a little gets there, unless it is unique.
//
// # Metadata
//
// Tokens are under the key [MetadataKey], unsigned: whoever can write to the
// table of jobs can do more than forge one. One that is malformed or of another
// cluster is dropped, and the attempt sees what is committed when it begins. So
// is one that a job is added with, as a copy of another's metadata, by a client
// that has the middleware.
package pgtideriver
