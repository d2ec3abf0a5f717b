module github.com/pgtide/pgtide/e2e

go 1.26.0

replace github.com/pgtide/pgtide => ../
