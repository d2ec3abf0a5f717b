module github.com/pgtide/pgtide/examples

go 1.26.0

replace github.com/pgtide/pgtide => ../
