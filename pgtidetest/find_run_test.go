package pgtidetest_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest"
)

// verdict runs f with the finder, as a test of its own.
func verdict(t *testing.T, f func(testing.TB, *pgtidetest.Tide)) *victim {
	t.Helper()
	return suffer(t, func(tb testing.TB) { pgtidetest.Run(tb, f) })
}

func TestRunVerdicts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		f    func(t testing.TB, tide *pgtidetest.Tide)
		want []string // none is a pass
	}{
		"nothing seen": {func(testing.TB, *pgtidetest.Tide) {}, []string{"no statement was seen", "DSNs of the tide"}},
		"own mistake": {func(t testing.TB, tide *pgtidetest.Tide) {
			t.Fatal("two and two is five")
		}, []string{"fails whether replicas lag or not", "two and two is five", "find_run_test.go:"}},
		"only with lag": {func(t testing.TB, tide *pgtidetest.Tide) {
			n := openNaive(t, tide)
			must(t, n.add(t.Context(), "a"))
			if c, err := n.count(t.Context(), "a"); err != nil || c != 1 {
				t.Errorf("found %d, %v", c, err)
			}
		}, []string{"fails with frozen replicas, and with fresh ones it does not", "found 0", "stale read"}},
		"primary alone": {func(t testing.TB, tide *pgtidetest.Tide) {
			n := openNaive(t, tide)
			must(t, n.add(t.Context(), "a"))
			query(t, n.primary, "select id from message")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verdict(t, c.f)
			if v.Failed() != (c.want != nil) {
				t.Errorf("failed: %v, want %v:\n%s", v.Failed(), c.want != nil, v.text.String())
			}
			wantText(t, v.text.String(), c.want...)
		})
	}
}

// What cannot be run at all has no verdict.
func TestFinderNeedsACluster(t *testing.T) {
	t.Parallel()
	finder := pgtidetest.Finder{Options: &pgtidetest.Options{Replicas: -1}}
	wantFatal(t, func(tb testing.TB) {
		finder.Find(tb, func(testing.TB, *pgtidetest.Tide) { t.Error("it is run") })
	}, "there is no replica")
}

func TestRunTellsWhatWasNotTested(t *testing.T) {
	t.Parallel()
	v := verdict(t, func(t testing.TB, tide *pgtidetest.Tide) { apply(t, tide, "insert into message values ('a')") })
	wantText(t, v.text.String(), "none of the 1 statements was a read from a frozen replica")
}

func TestFinderAccepts(t *testing.T) {
	t.Parallel()
	var asked []pgtidetest.Finding
	finder := pgtidetest.Finder{Accept: func(f pgtidetest.Finding) bool {
		asked = append(asked, f)
		return true
	}}
	report := finder.Find(t, func(t testing.TB, tide *pgtidetest.Tide) {
		n := openNaive(t, tide)
		must(t, n.add(t.Context(), "a"))
		query(t, n.replica, "select id from message")
	})
	if len(report.Findings) != 0 || len(asked) != 1 {
		t.Errorf("findings %v after %v were accepted, want none after one", report.Findings, asked)
	}
}

// The test that the code under test sees ends with each run, its cleanups and its
// context too, in the way of a test.
func TestRunIsATest(t *testing.T) {
	t.Parallel()
	var did []string
	v := verdict(t, func(t testing.TB, tide *pgtidetest.Tide) {
		ctx := t.Context()
		t.Cleanup(func() {
			if ctx.Err() == nil {
				t.Error("the context goes on")
			}
			did = append(did, "outer")
		})
		t.Cleanup(func() { did = append(did, "inner") })
		query(t, tide, "select id from message")
		t.Log("begun")
		if len(did) > 2 {
			t.FailNow()
		}
	})
	if got := strings.Join(did, " "); got != "inner outer inner outer" || v.Failed() {
		t.Errorf("the cleanups are %q, failed: %v\n%s", got, v.Failed(), v.text.String())
	}
}

func TestHandlerVerdicts(t *testing.T) {
	t.Parallel()
	wantFatal(t, func(tb testing.TB) { pgtidetest.Handler(tb, nil) }, "no requests")
	wantFatal(t, func(tb testing.TB) {
		pgtidetest.Handler(tb, func(t testing.TB, tide *pgtidetest.Tide) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		}, httptest.NewRequest("GET", "/gone", nil))
	}, "GET /gone is answered 502")
}

// The browser keeps cookies, for TLS too, sends bodies again, and does not leave
// the site.
func TestHandlerIsABrowser(t *testing.T) {
	t.Parallel()
	var seen []string
	open := func(t testing.TB, tide *pgtidetest.Tide) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body bytes.Buffer
			_, err := body.ReadFrom(r.Body)
			must(t, err)
			cookie := ""
			if c, err := r.Cookie("seen"); err == nil {
				cookie = c.Value
			}
			seen = append(seen, r.Method+" "+r.Host+r.URL.Path+" "+body.String()+cookie)
			switch r.URL.Path {
			case "/post":
				http.SetCookie(w, &http.Cookie{Name: "seen", Value: "yes", Secure: true, HttpOnly: true, Path: "/"})
				http.Redirect(w, r, "/next", http.StatusTemporaryRedirect)
			case "/away":
				http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
			default:
				query(t, tide, "select id from message")
			}
		})
	}
	pgtidetest.Handler(t, open,
		httptest.NewRequest("POST", "/post", strings.NewReader("tea ")),
		httptest.NewRequest("GET", "/away", nil),
	)
	once := []string{"POST example.com/post tea ", "POST example.com/next tea yes", "GET example.com/away yes"}
	if got, want := strings.Join(seen, "\n"), strings.Join(append(once, once...), "\n"); got != want {
		t.Errorf("the handler saw\n%s\nwant\n%s", got, want)
	}
}

// A statement can be cancelled through a relay.
func TestRelayPassesCancelOn(t *testing.T) {
	t.Parallel()
	pgtidetest.Run(t, func(t testing.TB, tide *pgtidetest.Tide) {
		conn, err := pgx.Connect(t.Context(), tide.DSN(tide.Primary()))
		must(t, err)
		defer conn.Close(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "select pg_sleep(60)")
			done <- err
		}()
		deadline := time.After(30 * time.Second)
		for { // a statement that runs sends no signal
			must(t, conn.PgConn().CancelRequest(t.Context()))
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), "57014") {
					t.Errorf("the statement ends with %v, want that it was cancelled", err)
				}
				return
			case <-deadline:
				t.Fatal("the statement is not cancelled")
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

func TestFinderOnExistingCluster(t *testing.T) {
	t.Parallel()
	_, dsn := startExisting(t)
	finder := pgtidetest.Finder{Options: &pgtidetest.Options{DSN: dsn, Schema: schema}}
	report := finder.Find(t, func(t testing.TB, tide *pgtidetest.Tide) {
		n := openNaive(t, tide)
		must(t, n.add(t.Context(), "a"))
		query(t, n.replica, "select id from message")
	})
	if len(report.Findings) != 1 || report.Findings[0].Fresh != "1 row" {
		t.Errorf("findings %v, want one\n%s", report.Findings, report.Trace)
	}
}
