// Package gorm shows GORM on a pgtide cluster:
//
//	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pgtidesql.Open(tide)}), &gorm.Config{})
//	err = db.WithContext(ctx).First(&author).Error // ctx carries the session, OnPrimary and the like
//
// Each statement goes where it belongs, with PrepareStmt, SkipDefaultTransaction
// and TranslateError or without. A transaction with sql.TxOptions.ReadOnly reads
// from a replica. Migrate with a context of pgtide.OnPrimary: another process may have
// changed the schema a moment ago, and a replica not know it yet.
//
// postgres.Config.PreferSimpleProtocol does nothing to a Conn: add
// default_query_exec_mode=simple_protocol to the DSN instead.
//
// With PrepareStmt a "select *" that was prepared before its table got another
// column is refused with 0A000, once on each connection. Without pgtide GORM
// meets that error again and again.
package gorm
