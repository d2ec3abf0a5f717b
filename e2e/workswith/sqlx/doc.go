// Package sqlx shows pgtide under sqlx.
//
//	db := sqlx.NewDb(pgtidesql.Open(pool), "pgx")
//
// The name is for sqlx alone: "pgx" makes it write parameters as PostgreSQL wants
// them. Who opens pgtide by its own driver name must say so first:
//
//	sqlx.BindDriver(pgtidesql.DriverName, sqlx.DOLLAR)
//	db, err := sqlx.Connect(pgtidesql.DriverName, "postgres://app@a,b,c/shop")
//
// Get, Select and NamedQuery go where their statement belongs: one that inserts
// and returns rows goes to the primary. Methods without a context are calls
// outside any session: they see what was written before through the same pool.
package sqlx
