package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const schema = "create table message (id bigint generated always as identity primary key, text text not null)"

// database is what the board needs of one: a pgxpool.Pool has it, and so has a
// pgtide.DB.
type database interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// board shows messages; whoever posts one is sent to the page that shows it.
type board struct{ writes, reads database }

func newBoard(writes, reads database) http.Handler {
	b := board{writes, reads}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /messages", b.post)
	mux.HandleFunc("GET /messages", b.list)
	return mux
}

func (b board) post(w http.ResponseWriter, r *http.Request) {
	if _, err := b.writes.Exec(r.Context(), "insert into message (text) values ($1)", r.FormValue("text")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/messages", http.StatusSeeOther)
}

func (b board) list(w http.ResponseWriter, r *http.Request) {
	rows, _ := b.reads.Query(r.Context(), "select text from message order by id")
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, text := range texts {
		fmt.Fprintln(w, text)
	}
}
