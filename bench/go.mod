module github.com/pgtide/pgtide/bench

go 1.26.0

replace github.com/pgtide/pgtide => ../

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/pgtide/pgtide v0.0.0
)
