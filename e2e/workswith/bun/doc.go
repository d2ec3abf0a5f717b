// Package bun shows bun on a pgtide cluster:
//
//	db := bun.NewDB(pgtidesql.Open(tide), pgdialect.New())
//
// Each statement goes where it belongs, be it built or raw: bun.WithConnResolver
// is not needed. RunInTx with sql.TxOptions.ReadOnly reads from a replica. Migrate
// with a context of pgtide.OnPrimary: another process may have changed the schema
// a moment ago, and a replica not know it yet.
//
// bun writes arguments into the text of a statement, so that no two are alike.
// Let pgx not prepare each of them: add default_query_exec_mode=exec or
// =simple_protocol to the DSN, as without pgtide.
package bun
