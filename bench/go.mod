module github.com/pgtide/pgtide/bench

go 1.26.0

replace github.com/pgtide/pgtide => ../
