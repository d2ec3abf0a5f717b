package pgtidehttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

const insert = "insert into message (id) values ($1)"

func readAll(r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	return string(b), err
}

func exec(db *pgtide.DB, r *http.Request) error {
	_, err := db.Exec(r.Context(), insert, id(r))
	return err
}

// inTx inserts in a transaction that it does not end.
func inTx(db *pgtide.DB, r *http.Request) (pgx.Tx, error) {
	tx, err := db.Begin(r.Context())
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(r.Context(), insert, id(r)); err != nil {
		return nil, errors.Join(err, tx.Rollback(r.Context()))
	}
	return tx, nil
}

// writers are the ways to write and to answer that were found to lose a
// session's token elsewhere, and their like.
var writers = []struct {
	name   string
	status int
	serve  func(*pgtide.DB, http.ResponseWriter, *http.Request) error
}{
	{"created", 201, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		err := exec(db, r)
		w.WriteHeader(http.StatusCreated)
		return err
	}},
	{"body-only", 200, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		if err := exec(db, r); err != nil {
			return err
		}
		_, err := w.Write([]byte("done"))
		return err
	}},
	{"silent", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error { return exec(db, r) }},
	{"no-content", 204, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		err := exec(db, r)
		w.WriteHeader(http.StatusNoContent)
		return err
	}},
	{"error", 500, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		err := exec(db, r)
		http.Error(w, "stored, but the mail was not sent", http.StatusInternalServerError)
		return err
	}},
	{"stream", 200, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		if err := exec(db, r); err != nil {
			return err
		}
		for range 3 {
			fmt.Fprint(w, "data: x\n\n")
			w.(http.Flusher).Flush()
		}
		return nil
	}},
	{"transaction", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		tx, err := inTx(db, r)
		if err != nil {
			return err
		}
		return tx.Commit(r.Context())
	}},
	{"with", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		var got string
		return db.QueryRow(r.Context(), "with i as ("+insert+" returning id) select id from i", id(r)).Scan(&got)
	}},
	{"connection", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		conn, err := db.Acquire(r.Context())
		if err != nil {
			return err
		}
		defer conn.Release()
		_, err = conn.Exec(r.Context(), insert, id(r))
		return err
	}},
	{"batch", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		b := &pgx.Batch{}
		b.Queue("select 1")
		b.Queue(insert, id(r))
		return db.SendBatch(r.Context(), b).Close()
	}},
	{"copy", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		_, err := db.CopyFrom(r.Context(), pgx.Identifier{"message"}, []string{"id"}, pgx.CopyFromRows([][]any{{id(r)}}))
		return err
	}},
	{"goroutine", 200, func(db *pgtide.DB, _ http.ResponseWriter, r *http.Request) error {
		done := make(chan error)
		go func() { done <- exec(db, r) }()
		return <-done
	}},
	{"redirect", 303, func(db *pgtide.DB, w http.ResponseWriter, r *http.Request) error {
		if err := exec(db, r); err != nil {
			return err
		}
		http.Redirect(w, r, r.FormValue("to")+"/read?id="+id(r), http.StatusSeeOther)
		return nil
	}},
}

// What a browser has written by one instance it reads by another. Without its
// cookie it does not: that shows that the replica is asked, and would be caught.
func TestReadYourWrites(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	for _, w := range writers {
		t.Run(w.name, func(t *testing.T) {
			browser, stranger, row := newBrowser(t), newBrowser(t), newID()
			browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			res, body := request(t, browser, "POST", a.URL+"/write/"+w.name+"?id="+row, nil)
			if res.StatusCode != w.status {
				t.Fatalf("the write is answered %d %q, want %d", res.StatusCode, body, w.status)
			}
			if len(res.Cookies()) != 1 {
				t.Errorf("the write was sent cookies %v, want one", res.Cookies())
			}
			expectRow(t, browser, b, row, nil, "1")
			expectRow(t, browser, a, row, nil, "1")
			expectRow(t, stranger, b, row, nil, "0")
			expectRow(t, stranger, a, row, nil, "0")
		})
	}
	if late := a.middleware.Stat().Late; late != 0 {
		t.Errorf("%d responses are counted late, want 0: every handler wrote in time", late)
	}
}

func TestRedirect(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	res, body := request(t, newBrowser(t), "POST", a.URL+"/write/redirect?id="+newID()+"&to="+b.URL, nil)
	if res.Request.Method != "GET" || "http://"+res.Request.URL.Host != b.URL || body != "1" {
		t.Errorf("the browser ended with %s %s and sees %q rows, want GET at %s and 1", res.Request.Method, res.Request.URL, body, b.URL)
	}
}

func TestHeaderClient(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	client, row := &http.Client{}, newID()
	res, _ := request(t, client, "POST", a.URL+"/write/created?id="+row, nil)
	token := res.Header.Get(pgtidehttp.DefaultHeader)
	if token == "" {
		t.Fatalf("the write's response %d has no token in its header: %v", res.StatusCode, res.Header)
	}
	expectRow(t, client, b, row, http.Header{pgtidehttp.DefaultHeader: {token}}, "1")
	expectRow(t, client, b, row, nil, "0")
}

// Of two writes by two instances the browser's one cookie must cover both.
func TestTokenGrows(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	browser, first, second := newBrowser(t), newID(), newID()
	request(t, browser, "POST", a.URL+"/write/created?id="+first, nil)
	request(t, browser, "POST", b.URL+"/write/transaction?id="+second, nil)
	for _, row := range []string{first, second} {
		expectRow(t, browser, a, row, nil, "1")
		expectRow(t, browser, b, row, nil, "1")
	}
}

// A write that is undone, or refused, is at most a token too many; the request
// and those after it are served.
func TestFailedWrites(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	browser, row := newBrowser(t), newID()
	request(t, browser, "POST", a.URL+"/write/created?id="+row, nil)
	res, body := request(t, browser, "POST", a.URL+"/write/silent?id="+row, nil)
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("writing a row twice is answered %d %q, want the handler's 503", res.StatusCode, body)
	}
	expectRow(t, browser, b, row, nil, "1")
}

func TestParallelBrowsers(t *testing.T) {
	a, b := newInstance(t), newInstance(t)
	var wg sync.WaitGroup
	for range 8 {
		browser := newBrowser(t)
		wg.Go(func() {
			for i := range 5 {
				row, w := newID(), writers[i]
				if res, err := browser.Post(a.URL+"/write/"+w.name+"?id="+row, "", nil); err != nil {
					t.Errorf("write: %v", err)
					return
				} else {
					res.Body.Close()
				}
				res, err := browser.Get(b.URL + "/read?id=" + row)
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				if got, err := readAll(res.Body); got != "1" {
					t.Errorf("after a write at %s a read sees %q rows (%v), want 1", w.name, got, err)
				}
				res.Body.Close()
			}
		})
	}
	wg.Wait()
}
