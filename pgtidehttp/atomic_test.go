package pgtidehttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// inRequest inserts a row in the request's transaction.
func inRequest(r *http.Request) error {
	tx, err := pgtidehttp.Tx(r.Context())
	if err != nil {
		return err
	}
	_, err = tx.Exec(r.Context(), insert, id(r))
	return err
}

// atomicApp has a transaction for each request.
func atomicApp(t *testing.T) *instance {
	t.Helper()
	i := newApp(t, liveCluster, pgtide.Options{}, pgtidehttp.Options{Transactions: true})
	i.mux.Handle("GET /count", pgtidehttp.UsePrimary(i.handle(count)))
	return i
}

// expectCount looks at the primary.
func expectCount(t *testing.T, i *instance, row, want string) {
	t.Helper()
	if _, body := request(t, &http.Client{}, "GET", i.URL+"/count?id="+row, nil); body != want {
		t.Errorf("the primary has %s rows, want %s", body, want)
	}
}

func TestTransactionPerRequest(t *testing.T) {
	i := atomicApp(t)
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		status int
		rows   string
	}{
		{"created", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, 201, "1"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusSeeOther) }, 303, "1"},
		{"silent", func(http.ResponseWriter, *http.Request) {}, 200, "1"},
		{"conflict", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(409) }, 409, "1"},
		{"error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, 500, "0"},
		{"panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i.mux.HandleFunc("POST /"+tt.name, func(w http.ResponseWriter, r *http.Request) {
				if err := inRequest(r); err != nil {
					t.Errorf("insert: %v", err)
				}
				tt.answer(w, r)
			})
			row := newID()
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			res, err := client.Post(i.URL+"/"+tt.name+"?id="+row, "", nil)
			if (err == nil) != (tt.status != 0) {
				t.Fatalf("POST: %v", err)
			}
			if err == nil {
				res.Body.Close()
				if res.StatusCode != tt.status {
					t.Errorf("the response is %d, want %d", res.StatusCode, tt.status)
				}
				if token := res.Header.Get(pgtidehttp.DefaultHeader); (token != "") != (tt.rows == "1") {
					t.Errorf("the response has token %q, and %s rows were written", token, tt.rows)
				}
			}
			expectCount(t, i, row, tt.rows)
		})
	}
}

// By the time the client sees the first byte, the row is there for everybody.
func TestCommitBeforeTheFirstByte(t *testing.T) {
	i := atomicApp(t)
	leave := make(chan struct{})
	i.mux.HandleFunc("POST /stream", func(w http.ResponseWriter, r *http.Request) {
		if err := inRequest(r); err != nil {
			t.Errorf("insert: %v", err)
		}
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-leave
	})
	row := newID()
	res, err := http.Post(i.URL+"/stream?id="+row, "", nil)
	if err != nil {
		t.Fatalf("POST: %v", err)
	}
	defer res.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatalf("read the first bytes: %v", err)
	}
	expectCount(t, i, row, "1")
	close(leave)
}

// The handler says 201, and the server refuses the commit.
func TestRefusedCommit(t *testing.T) {
	i := atomicApp(t)
	if _, err := i.db.Exec(t.Context(), "create table if not exists part (of text references message (id) deferrable initially deferred)"); err != nil {
		t.Fatalf("create a table: %v", err)
	}
	i.mux.HandleFunc("POST /part", func(w http.ResponseWriter, r *http.Request) {
		tx, err := pgtidehttp.Tx(r.Context())
		if err == nil {
			_, err = tx.Exec(r.Context(), "insert into part values ('nothing')")
		}
		if err != nil {
			t.Errorf("insert: %v", err)
		}
		w.WriteHeader(http.StatusCreated)
		if _, err := io.WriteString(w, "made"); !errors.Is(err, pgtidehttp.ErrNotCommitted) {
			t.Errorf("the body is taken with %v, want ErrNotCommitted", err)
		}
	})
	if res, body := request(t, &http.Client{}, "POST", i.URL+"/part", nil); res.StatusCode != 500 || strings.Contains(body, "made") {
		t.Errorf("the response is %d %q, want a plain 500", res.StatusCode, body)
	}
}

// Requests at once on one handler each have their own choice: those that read
// are on the replica, and the others write on the primary.
func TestTransactionsAtOnce(t *testing.T) {
	i := atomicApp(t)
	i.mux.HandleFunc("/both", func(w http.ResponseWriter, r *http.Request) {
		tx, err := pgtidehttp.Tx(r.Context())
		if err != nil {
			t.Errorf("%s: %v", r.Method, err)
			return
		}
		var replica, readOnly bool
		if err := tx.QueryRow(r.Context(), "select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'").Scan(&replica, &readOnly); err != nil {
			t.Errorf("%s: %v", r.Method, err)
		}
		if r.Method == http.MethodPost {
			if err := inRequest(r); err != nil {
				t.Errorf("insert: %v", err)
			}
		}
		fmt.Fprintf(w, "%v %v", replica, readOnly)
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				// No cookies: nothing but the method tells the requests apart.
				for method, want := range map[string]string{"GET": "true true", "POST": "false false"} {
					r, err := http.NewRequest(method, i.URL+"/both?id="+newID(), nil)
					if err != nil {
						t.Error(err)
						return
					}
					res, err := http.DefaultClient.Do(r)
					if err != nil {
						t.Errorf("%s: %v", method, err)
						return
					}
					body, _ := readAll(res.Body)
					res.Body.Close()
					if body != want {
						t.Errorf("%s ran on a replica, and only read: %s; want %s", method, body, want)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := i.middleware.Stat(); got.Committed != 80 || got.CommitErrors+got.RolledBack != 0 {
		t.Errorf("counters are %+v, want 80 commits", *got)
	}
}

// What is written in a transaction is seen by the same client's next request, on
// whichever node, and a GET that writes says so.
func TestTransactionCarriesToken(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{}, pgtidehttp.Options{})
	add := func(w http.ResponseWriter, r *http.Request) {
		if err := inRequest(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	i.mux.Handle("GET /add", pgtidehttp.UsePrimary(pgtidehttp.Atomic(http.HandlerFunc(add))))
	i.mux.Handle("GET /wrong", pgtidehttp.Atomic(http.HandlerFunc(add)))
	i.mux.Handle("GET /read", i.handle(count))
	browser, row := newBrowser(t), newID()
	if res, body := request(t, browser, "GET", i.URL+"/add?id="+row, nil); res.StatusCode != 200 || len(res.Cookies()) != 1 {
		t.Errorf("the response is %d %q with cookies %v, want 200 and a token", res.StatusCode, body, res.Cookies())
	}
	expectRow(t, browser, i, row, nil, "1")
	if res, body := request(t, browser, "GET", i.URL+"/wrong?id="+newID(), nil); res.StatusCode != 500 || !strings.Contains(body, "read-only transaction") {
		t.Errorf("a write in a GET's transaction is answered %d %q, want the server's refusal", res.StatusCode, body)
	}
}
