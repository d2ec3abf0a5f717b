// Package migrate shows golang-migrate on a pgtide cluster:
//
//	driver, err := pgx.WithInstance(pgtidesql.Open(db), &pgx.Config{}) // database/pgx/v5
//	m, err := migrate.NewWithInstance("iofs", source, "pgtide", driver)
//	err = m.Up()
//
// The driver takes its advisory lock before it asks for the version, so that
// all its calls stay on one connection to the primary, which it keeps until
// m.Close. That closes the *sql.DB as well, and leaves the pgtide.DB open.
//
// The driver's calls have no context of yours, and so no session: see the wait
// test for how to wait until the replicas have the new schema.
//
// Its URLs always open the driver of pgx. The dsn test has a few lines that
// make pgtide://a,b,c/shop work.
package migrate
