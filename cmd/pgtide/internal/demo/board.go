package demo

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

//go:embed board.html
var boardHTML string

var boardTemplate = template.Must(template.New("board").Parse(boardHTML))

// The longest message, in characters, as the table has it, and how many are shown.
const (
	boardText = 200
	boardRows = 8
)

// board is the page of the service: a form that writes through pgtide and
// redirects, as forms have done since there are browsers, and the newest messages
// as pgtide and the naive router show them.
type board struct {
	pgtide service.Store
	naive  func() service.Store // the one of now
}

// boardList is the list of messages by one router.
type boardList struct {
	Router string
	Texts  []string
	Missed bool // the message that this browser has just posted is not there
	By     pgtide.Decision
	Err    string
}

func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		b.show(w, r, http.StatusOK, "")
	case http.MethodPost:
		b.post(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// post writes a message and sends the browser to the page that shows it.
func (b *board) post(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	text := strings.TrimSpace(r.PostFormValue("text"))
	if text == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) || utf8.RuneCountInString(text) > boardText {
		b.show(w, r, http.StatusBadRequest, fmt.Sprintf("A message has 1 to %d characters.", boardText))
		return
	}
	var id string
	if err := b.pgtide.QueryRow(r.Context(), "insert into message (text) values ($1) returning id::text", text).Scan(&id); err != nil {
		slog.ErrorContext(r.Context(), "post a message", "error", err)
		problem := "The database does not take this now: try again later."
		if pgtide.OutcomeUnknown(err) {
			problem = "Nobody knows whether this was done: look before sending it again."
		}
		b.show(w, r, http.StatusServiceUnavailable, problem)
		return
	}
	http.Redirect(w, r, "/?posted="+id, http.StatusSeeOther)
}

func (b *board) show(w http.ResponseWriter, r *http.Request, status int, problem string) {
	posted := r.URL.Query().Get("posted")
	page := struct {
		Problem string
		Limit   int
		API     string
		Lists   []boardList
	}{
		Problem: problem, Limit: boardText, API: service.Path,
		Lists: []boardList{b.list(r, "pgtide", b.pgtide, posted), b.list(r, "a naive router", b.naive(), posted)},
	}
	var html bytes.Buffer
	if err := boardTemplate.Execute(&html, page); err != nil {
		panic(err) // the template is this package's own
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.WriteHeader(status)
	w.Write(html.Bytes())
}

// list reads the newest messages from one store.
func (b *board) list(r *http.Request, name string, store service.Store, posted string) boardList {
	ctx, witness := withWitness(r.Context())
	list := boardList{Router: name, Missed: posted != ""}
	rows, err := store.Query(ctx, "select id::text, text from message order by created_at desc, id desc limit $1", boardRows)
	if err == nil {
		var id, text string
		_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
			list.Texts = append(list.Texts, text)
			list.Missed = list.Missed && id != posted
			return nil
		})
	}
	if err != nil {
		slog.ErrorContext(ctx, "list messages", "router", name, "error", err)
		list.Err = "It cannot read now."
	}
	list.By = witness.decision()
	list.By.Node = cmp.Or(list.By.Node, "nobody")
	return list
}
