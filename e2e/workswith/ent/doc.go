// Package ent shows ent on a pgtide cluster:
//
//	drv := entsql.OpenDB(dialect.Postgres, pgtidesql.Open(tide))
//	client := ent.NewClient(ent.Driver(drv))
//
// ent hands every context on, so those of pgtide say where a call goes.
// client.BeginTx with sql.TxOptions.ReadOnly reads from a replica. Migrate with a
// context of pgtide.OnPrimary: another process may have changed the schema a
// moment ago, and a replica not know it yet.
//
// A context of entsql.WithVar sets something on the server session first, so that
// its reads go to the primary, on a connection that is closed afterwards. For
// row-level security on replicas use a read-only transaction with "set local".
package ent
