package pgtidehttp_test

import (
	"context"
	"encoding/base64"
	"log"
	"net/http"
	"os"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// A client that has posted a message sees it on the page it is sent to, on
// whichever replica and in whichever instance of this program.
func Example() {
	db, err := pgtide.Open(context.Background(), pgtide.Options{DSN: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}

	// The same in all instances: openssl rand -base64 32
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("TOKEN_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := pgtide.NewKeys(secret)
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /message", func(w http.ResponseWriter, r *http.Request) {
		if _, err := db.Exec(r.Context(), "insert into message (text) values ($1)", r.FormValue("text")); err != nil {
			http.Error(w, "not stored", http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/message", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /message", func(w http.ResponseWriter, r *http.Request) {
		var text string
		if err := db.QueryRow(r.Context(), "select text from message order by id desc limit 1").Scan(&text); err != nil {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		w.Write([]byte(text))
	})

	handler := pgtidehttp.New(db, pgtidehttp.Options{Keys: keys}).Wrap(mux)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", handler))
}

// Some routes go their own way, and each request that writes is one transaction.
func ExampleTx() {
	var db *pgtide.DB
	var keys *pgtide.Keys
	mux := http.NewServeMux()
	mux.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		tx, err := pgtidehttp.Tx(r.Context())
		if err == nil {
			_, err = tx.Exec(r.Context(), "insert into orders (item) values ($1)", r.FormValue("item"))
		}
		if err != nil {
			http.Error(w, "not ordered", http.StatusInternalServerError) // and rolled back
			return
		}
		w.WriteHeader(http.StatusCreated) // once it is committed
	})
	handler := pgtidehttp.New(db, pgtidehttp.Options{
		Keys:         keys,
		Transactions: true,
		Routes: []pgtidehttp.Route{
			{Pattern: "/admin/*", Use: "primary"},
			{Pattern: "POST /search", Use: "replica"},
			{Pattern: "/reports/", Use: "group:analytics"},
		},
	}).Wrap(mux)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", handler))
}
