package service

import (
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// Message is one row as the API shows it.
type Message struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Text      string    `json:"text"`
}

const columns = "id::text, created_at, updated_at, text"

func scan(row pgx.Row) (Message, error) {
	var m Message
	err := row.Scan(&m.ID, &m.CreatedAt, &m.UpdatedAt, &m.Text)
	m.CreatedAt, m.UpdatedAt = m.CreatedAt.UTC(), m.UpdatedAt.UTC()
	return m, err
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	text, ok := readText(w, r)
	if !ok {
		return
	}
	var id string
	err := s.store.QueryRow(r.Context(), "insert into message (text) values ($1) returning id::text", text).Scan(&id)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Location", Path+"/"+id)
	answer(w, http.StatusCreated, map[string]string{"id": id})
}

// list answers with one page, newest first. Messages that arrive between two
// requests move the pages: then one may show again on the next.
func (s *service) list(w http.ResponseWriter, r *http.Request) {
	p, ok := readPage(w, r)
	if !ok {
		return
	}
	// One more than asked for tells whether there is a next page.
	rows, err := s.store.Query(r.Context(),
		"select "+columns+" from message order by created_at desc, id desc limit $1 offset $2", p.limit+1, p.offset)
	if err != nil {
		fail(w, r, err)
		return
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Message, error) { return scan(row) })
	if err != nil {
		fail(w, r, err)
		return
	}
	list := struct {
		Results []Message `json:"results"`
		Next    *string   `json:"next"`
	}{Results: found}
	if len(found) > p.limit {
		next := Path + "?" + p.next()
		list.Results, list.Next = found[:p.limit], &next
	}
	answer(w, http.StatusOK, list)
}

func (s *service) get(w http.ResponseWriter, r *http.Request, id string) {
	one(w, r, s.store.QueryRow(r.Context(), "select "+columns+" from message where id = $1", id))
}

func (s *service) replace(w http.ResponseWriter, r *http.Request, id string) {
	text, ok := readText(w, r)
	if !ok {
		return
	}
	one(w, r, s.store.QueryRow(r.Context(),
		"update message set text = $2, updated_at = now() where id = $1 returning "+columns, id, text))
}

func (s *service) delete(w http.ResponseWriter, r *http.Request, id string) {
	tag, err := s.store.Exec(r.Context(), "delete from message where id = $1", id)
	switch {
	case err != nil:
		fail(w, r, err)
	case tag.RowsAffected() == 0:
		notFound(w)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// one answers with the message in row, if there is one.
func one(w http.ResponseWriter, r *http.Request, row pgx.Row) {
	switch m, err := scan(row); {
	case errors.Is(err, pgx.ErrNoRows):
		notFound(w)
	case err != nil:
		fail(w, r, err)
	default:
		answer(w, http.StatusOK, m)
	}
}
