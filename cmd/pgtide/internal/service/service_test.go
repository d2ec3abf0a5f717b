package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

const unusedID = "00000000-0000-4000-8000-000000000000"

// call makes one request of the service and returns its status, header and body.
func call(t *testing.T, h http.Handler, method, path, body string) (int, http.Header, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body)))
	text := w.Body.String()
	if kind := w.Header().Get("Content-Type"); text != "" && kind != "application/json; charset=utf-8" {
		t.Errorf("%s %s: got content type %q of %q, want JSON", method, path, kind, text)
	}
	return w.Code, w.Header(), strings.TrimSuffix(text, "\n")
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

func create(t *testing.T, h http.Handler, text string) (id string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	code, header, answer := call(t, h, "POST", service.Path, string(body))
	if code != http.StatusCreated {
		t.Fatalf("POST %s: got %d %s, want 201", body, code, answer)
	}
	created := decode[map[string]string](t, answer)
	id = created["id"]
	if len(created) != 1 || len(id) != 36 {
		t.Fatalf("POST %s: got %s, want an id and nothing else", body, answer)
	}
	if got, want := header.Get("Location"), service.Path+"/"+id; got != want {
		t.Errorf("POST: got location %q, want %q", got, want)
	}
	return id
}

// A message's whole life, without and with a trailing slash.
func TestLife(t *testing.T) {
	h := service.New(db)
	for _, slash := range []string{"", "/"} {
		t.Run("slash="+slash, func(t *testing.T) {
			code, _, answer := call(t, h, "POST", service.Path+slash, `{"text":"hi"}`)
			if code != http.StatusCreated {
				t.Fatalf("POST: got %d %s, want 201", code, answer)
			}
			path := service.Path + "/" + decode[map[string]string](t, answer)["id"] + slash

			code, _, answer = call(t, h, "GET", path, "")
			first := decode[service.Message](t, answer)
			if code != http.StatusOK || first.Text != "hi" || !strings.Contains(path, first.ID) {
				t.Errorf("GET: got %d %s, want 200 and the message", code, answer)
			}
			if age := time.Since(first.CreatedAt); age < -time.Minute || age > time.Minute || !first.UpdatedAt.Equal(first.CreatedAt) {
				t.Errorf("GET: got created_at %v and updated_at %v, want both now", first.CreatedAt, first.UpdatedAt)
			}

			code, _, answer = call(t, h, "PUT", path, `{"text":"<ho> & \u00fc","id":"ignored"}`)
			second := decode[service.Message](t, answer)
			if code != http.StatusOK || second.ID != first.ID || second.Text != "<ho> & ü" {
				t.Errorf("PUT: got %d %s, want 200 and the message as it is now", code, answer)
			}
			if !second.CreatedAt.Equal(first.CreatedAt) || !second.UpdatedAt.After(first.UpdatedAt) {
				t.Errorf("PUT: got created_at %v and updated_at %v, want %v and one after %v",
					second.CreatedAt, second.UpdatedAt, first.CreatedAt, first.UpdatedAt)
			}
			if code, _, again := call(t, h, "GET", path, ""); code != http.StatusOK || again != answer {
				t.Errorf("GET after PUT: got %d %s, want 200 %s", code, again, answer)
			}
			if code, _, list := call(t, h, "GET", service.Path+slash, ""); code != http.StatusOK || !strings.Contains(list, first.ID) {
				t.Errorf("GET the list: got %d %s, want 200 and %s in it", code, list, first.ID)
			}

			if code, _, answer := call(t, h, "DELETE", path, ""); code != http.StatusNoContent || answer != "" {
				t.Errorf("DELETE: got %d %q, want 204 and nothing", code, answer)
			}
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				if code, _, answer := call(t, h, method, path, `{"text":"hi"}`); code != http.StatusNotFound || answer != `{"detail":"Not found."}` {
					t.Errorf("%s after DELETE: got %d %s, want 404", method, code, answer)
				}
			}
		})
	}
}

func TestText(t *testing.T) {
	const (
		required = `{"text":["This field is required."]}`
		null     = `{"text":["This field may not be null."]}`
		blank    = `{"text":["This field may not be blank."]}`
		long     = `{"text":["Ensure this field has no more than 200 characters."]}`
		noString = `{"text":["Not a valid string."]}`
		nul      = `{"text":["Null characters are not allowed."]}`
	)
	h := service.New(db)
	id := create(t, h, "before")
	for _, test := range []struct {
		name, body string
		code       int
		want       string // empty for any answer
	}{
		{"OK", `{"text":"hi"}`, 0, ""},
		{"OK 200 characters", `{"text":"` + strings.Repeat("a", 200) + `"}`, 0, ""},
		{"OK 200 characters of 4 bytes", `{"text":"` + strings.Repeat("😀", 200) + `"}`, 0, ""},
		{"OK 200 escaped characters", `{"text":"` + strings.Repeat(`\ud83d\ude00`, 200) + `"}`, 0, ""},
		{"OK white space around", ` { "text" : "  hi " } `, 0, ""},
		{"missing", `{}`, 400, required},
		{"other field", `{"Text":"hi"}`, 400, required},
		{"null", `{"text":null}`, 400, null},
		{"empty", `{"text":""}`, 400, blank},
		{"white space", `{"text":" \t\n\u00a0"}`, 400, blank},
		{"201 characters", `{"text":"` + strings.Repeat("ü", 201) + `"}`, 400, long},
		{"NUL", `{"text":"a\u0000b"}`, 400, nul},
		{"number", `{"text":5}`, 400, noString},
		{"boolean", `{"text":true}`, 400, noString},
		{"list", `{"text":["hi"]}`, 400, noString},
		{"object", `{"text":{}}`, 400, noString},
		{"no JSON", `text=hi`, 400, `{"detail":"JSON parse error: invalid character 'e' in literal true (expecting 'r')."}`},
		{"no body", ``, 400, `{"detail":"JSON parse error: unexpected end of JSON input."}`},
		{"cut off", `{"text":"hi"`, 400, `{"detail":"JSON parse error: unexpected end of JSON input."}`},
		{"trailing garbage", `{"text":"hi"} x`, 400, `{"detail":"JSON parse error: invalid character 'x' after top-level value."}`},
		{"two objects", `{"text":"hi"}{"text":"hi"}`, 400, `{"detail":"JSON parse error: invalid character '{' after top-level value."}`},
		{"no object", `["hi"]`, 400, `{"detail":"JSON parse error: expected an object, not array."}`},
		{"null body", `null`, 400, `{"detail":"JSON parse error: expected an object, not null."}`},
		{"no UTF-8", "{\"text\":\"\xff\"}", 400, `{"detail":"JSON parse error: the body is not UTF-8."}`},
		{"too large", `{"text":"` + strings.Repeat("a", 64<<10) + `"}`, 413, `{"detail":"The body is larger than 65536 bytes."}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			for method, path := range map[string]string{"POST": service.Path, "PUT": service.Path + "/" + id} {
				want := test.code
				if want == 0 {
					want = map[string]int{"POST": http.StatusCreated, "PUT": http.StatusOK}[method]
				}
				code, _, answer := call(t, h, method, path, test.body)
				if code != want || test.want != "" && answer != test.want {
					t.Errorf("%s: got %d %s, want %d %s", method, code, answer, want, test.want)
				}
			}
		})
	}
}

func TestErrNotThere(t *testing.T) {
	h := service.New(db)
	one := service.Path + "/" + unusedID
	for _, test := range []struct {
		method, path string
		code         int
		allow, want  string
	}{
		{"GET", one, 404, "", `{"detail":"Not found."}`},
		{"DELETE", one, 404, "", `{"detail":"Not found."}`},
		{"GET", service.Path + "/1", 404, "", `{"detail":"Not found."}`},
		{"GET", service.Path + "/" + strings.Repeat("x", 36), 404, "", `{"detail":"Not found."}`},
		{"GET", service.Path + "/" + strings.ReplaceAll(unusedID, "-", "0"), 404, "", `{"detail":"Not found."}`},
		{"PUT", service.Path + "/%27", 404, "", `{"detail":"Not found."}`},
		{"GET", one + "/x", 404, "", `{"detail":"Not found."}`},
		{"GET", "/", 404, "", `{"detail":"Not found."}`},
		{"POST", "/api/v1/messages", 404, "", `{"detail":"Not found."}`},
		{"PATCH", one, 405, "DELETE, GET, HEAD, OPTIONS, PUT", `{"detail":"Method \"PATCH\" not allowed."}`},
		{"POST", one + "/", 405, "DELETE, GET, HEAD, OPTIONS, PUT", `{"detail":"Method \"POST\" not allowed."}`},
		{"DELETE", service.Path, 405, "GET, HEAD, OPTIONS, POST", `{"detail":"Method \"DELETE\" not allowed."}`},
		{"OPTIONS", service.Path, 204, "GET, HEAD, OPTIONS, POST", ``},
	} {
		code, header, answer := call(t, h, test.method, test.path, "")
		if code != test.code || answer != test.want || header.Get("Allow") != test.allow {
			t.Errorf("%s %s: got %d %s, Allow %q, want %d %s, Allow %q",
				test.method, test.path, code, answer, header.Get("Allow"), test.code, test.want, test.allow)
		}
	}
}

type list struct {
	Results []service.Message `json:"results"`
	Next    *string           `json:"next"`
}

func TestPages(t *testing.T) {
	h := service.New(db)
	if _, err := db.Exec(t.Context(), "delete from message"); err != nil {
		t.Fatal(err)
	}
	if _, _, answer := call(t, h, "GET", service.Path, ""); answer != `{"results":[],"next":null}` {
		t.Errorf("GET of no messages: got %s", answer)
	}
	var want []string // newest first
	for i := range 5 {
		want = slices.Insert(want, 0, create(t, h, fmt.Sprint("message ", i)))
	}
	var got []string
	path := service.Path + "?limit=2"
	for pages := 1; path != ""; pages++ {
		code, _, answer := call(t, h, "GET", path, "")
		if code != http.StatusOK || pages > 3 {
			t.Fatalf("GET %s as page %d: got %d %s, want at most 3 pages", path, pages, code, answer)
		}
		page := decode[list](t, answer)
		for _, m := range page.Results {
			got = append(got, m.ID)
		}
		path = ""
		if page.Next != nil {
			path = *page.Next
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("pages: got %v, want %v", got, want)
	}
	// Of one moment: the order must still be the same each time.
	if _, err := db.Exec(t.Context(), "update message set created_at = '2000-01-01'"); err != nil {
		t.Fatal(err)
	}
	var halves []service.Message
	for _, query := range []string{"?limit=3", "?offset=3"} {
		_, _, answer := call(t, h, "GET", service.Path+query, "")
		halves = append(halves, decode[list](t, answer).Results...)
	}
	_, _, answer := call(t, h, "GET", service.Path, "")
	if whole := decode[list](t, answer).Results; len(whole) != 5 || !reflect.DeepEqual(halves, whole) {
		t.Errorf("messages of one moment: got %v in two pages, want %v", halves, whole)
	}
}

func TestErrPages(t *testing.T) {
	h := service.New(db)
	for query, want := range map[string]string{
		"limit=x":                     `{"limit":["A valid integer is required."]}`,
		"limit=":                      `{"limit":["A valid integer is required."]}`,
		"limit=0":                     `{"limit":["Ensure this value is greater than or equal to 1."]}`,
		"limit=101":                   `{"limit":["Ensure this value is less than or equal to 100."]}`,
		"offset=-1":                   `{"offset":["Ensure this value is greater than or equal to 0."]}`,
		"offset=99999999999999999999": `{"offset":["A valid integer is required."]}`,
		"limit=0&offset=1.5":          `{"limit":["Ensure this value is greater than or equal to 1."],"offset":["A valid integer is required."]}`,
		"limit=%zz":                   `{"detail":"The query is malformed."}`,
	} {
		if code, _, answer := call(t, h, "GET", service.Path+"?"+query, ""); code != http.StatusBadRequest || answer != want {
			t.Errorf("GET ?%s: got %d %s, want 400 %s", query, code, answer, want)
		}
	}
}

// broken is a store whose every call fails.
type broken struct{ err error }

func (b broken) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, b.err
}
func (b broken) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, b.err }
func (b broken) QueryRow(context.Context, string, ...any) pgx.Row        { return b }
func (b broken) Scan(...any) error                                       { return b.err }

// Clients are told whether to come back, and nothing of what is inside.
func TestErrStore(t *testing.T) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	one := service.Path + "/" + unusedID
	for _, test := range []struct {
		err  error
		code int
		want string
	}{
		{errors.New("secret"), 500, `{"detail":"A server error occurred."}`},
		{fmt.Errorf("%w after 10s", pgtide.ErrNoPrimary), 503, `{"detail":"The database does not take this now: try again later."}`},
		{&pgtide.OutcomeUnknownError{Node: "a", Err: io.EOF}, 503, `{"detail":"Nobody knows whether this was done: look before sending it again."}`},
	} {
		h := service.New(broken{test.err})
		for _, request := range [][2]string{{"POST", service.Path}, {"GET", service.Path}, {"GET", one}, {"PUT", one}, {"DELETE", one}} {
			if code, _, answer := call(t, h, request[0], request[1], `{"text":"hi"}`); code != test.code || answer != test.want {
				t.Errorf("%s %s with a store that says %q: got %d %s, want %d %s", request[0], request[1], test.err, code, answer, test.code, test.want)
			}
		}
	}
}
