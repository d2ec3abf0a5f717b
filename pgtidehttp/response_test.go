package pgtidehttp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
)

// plain hides all that a reader or writer has beside Read or Write.
type plain struct{ io.Reader }

// source does its work when it is first read.
type source struct {
	io.Reader
	work func()
}

func (s *source) Read(b []byte) (int, error) {
	if s.work != nil {
		s.work()
		s.work = nil
	}
	return s.Reader.Read(b)
}

// TestResponses looks at what is on the wire after each way to answer.
func TestResponses(t *testing.T) {
	token := newToken(t, home, 100)
	long := strings.Repeat("0123456789abcdef", 4096)
	wrote := func(r *http.Request) { write(r.Context(), token) }
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		status  int
		body    string
		bare    bool // no token
		late    bool
	}{
		{"201", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, "made")
		}, 201, "made", false, false},
		{"303", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			w.Header().Set("Location", "/message")
			w.WriteHeader(http.StatusSeeOther)
		}, 303, "", false, false},
		{"204", func(w http.ResponseWriter, r *http.Request) { wrote(r); w.WriteHeader(http.StatusNoContent) }, 204, "", false, false},
		{"304", func(w http.ResponseWriter, r *http.Request) { wrote(r); w.WriteHeader(http.StatusNotModified) }, 304, "", false, false},
		{"500", func(w http.ResponseWriter, r *http.Request) { wrote(r); http.Error(w, "no", 500) }, 500, "no\n", false, false},
		{"implicit 200", func(w http.ResponseWriter, r *http.Request) { wrote(r); w.Write([]byte("hi")) }, 200, "hi", false, false},
		{"string", func(w http.ResponseWriter, r *http.Request) { wrote(r); io.WriteString(w, "hi") }, 200, "hi", false, false},
		{"nothing", func(w http.ResponseWriter, r *http.Request) { wrote(r) }, 200, "", false, false},
		{"a write of nothing", func(w http.ResponseWriter, r *http.Request) { wrote(r); w.Write(nil) }, 200, "", false, false},
		{"copy", func(w http.ResponseWriter, r *http.Request) { wrote(r); io.Copy(w, plain{strings.NewReader(long)}) }, 200, long, false, false},
		{"copy of little", func(w http.ResponseWriter, r *http.Request) { wrote(r); io.Copy(w, plain{strings.NewReader("hi")}) }, 200, "hi", false, false},
		{"copy of nothing", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, plain{strings.NewReader("")}); wrote(r) }, 200, "", false, false},
		{"copy after a part", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			io.WriteString(w, "part")
			io.Copy(w, plain{strings.NewReader(long)})
		}, 200, "part" + long, false, false},
		{"copy from a source that writes", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, &source{strings.NewReader(long), func() { wrote(r) }})
		}, 200, long, false, false},
		{"file", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(long))
		}, 200, long, false, false},
		{"after an interim response", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			wrote(r)
			w.WriteHeader(http.StatusAccepted)
		}, 202, "", false, false},
		{"second status", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			w.WriteHeader(http.StatusCreated)
			w.Write(nil)
			w.(http.Flusher).Flush()
		}, 201, "", false, false},
		{"flush", func(w http.ResponseWriter, r *http.Request) { wrote(r); w.(http.Flusher).Flush() }, 200, "", false, false},
		{"controller's flush", func(w http.ResponseWriter, r *http.Request) {
			wrote(r)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
		}, 200, "", false, false},
		{"write after the status", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200); wrote(r) }, 200, "", true, true},
		{"write after the body", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi"); wrote(r) }, 200, "hi", true, true},
		{"write after a flush", func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); wrote(r) }, 200, "", true, true},
		{"no write", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) }, 201, "", true, false},
		{"a write elsewhere", func(w http.ResponseWriter, r *http.Request) { write(r.Context(), newToken(t, abroad, 100)) }, 200, "", true, false},
		{"a session of the handler's own", func(w http.ResponseWriter, r *http.Request) {
			write(pgtide.NewSession(r.Context()), token)
		}, 200, "", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newTest(t, Options{})
			server := httptest.NewServer(m.Wrap(tt.handler))
			defer server.Close()
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if _, ok := sent(t, m, http.Header(h)); ok {
						t.Errorf("interim response %d carries a token", code)
					}
					return nil
				},
			})
			res := fetch(t, server, mustRequest(t, server.URL).WithContext(ctx))
			if body := read(t, res); res.StatusCode != tt.status || body != tt.body {
				t.Errorf("the response is %d with %d bytes, want %d with %d bytes", res.StatusCode, len(body), tt.status, len(tt.body))
			}
			got, ok := sent(t, m, res.Header)
			if ok == tt.bare || ok && !got.Equal(token) {
				t.Errorf("the response carries %v, want a token: %v", got, !tt.bare)
			}
			server.Close() // waits for the handler, which counts when it returns
			want := Stat{}
			if !tt.bare {
				want.Sent = 1
			}
			if tt.late {
				want.Late = 1
			}
			if got := *m.Stat(); got != want {
				t.Errorf("counters are %+v, want %+v", got, want)
			}
		})
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch does not follow redirects.
func fetch(t *testing.T, server *httptest.Server, r *http.Request) *http.Response {
	t.Helper()
	res, err := server.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func read(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return string(body)
}

// Events reach the client one by one, and the token with the first.
func TestEventStream(t *testing.T) {
	m := newTest(t, Options{})
	token, seen := newToken(t, home, 100), make(chan struct{})
	server := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		write(r.Context(), token)
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	})))
	defer server.Close()
	res := fetch(t, server, mustRequest(t, server.URL))
	if got, _ := sent(t, m, res.Header); !got.Equal(token) {
		t.Errorf("the response carries %v, want %v", got, token)
	}
	for lines, i := bufio.NewScanner(res.Body), 0; i < 3; i++ {
		// The handler sends the next event only when this one was seen: a Flush
		// that is held back would block here until the test's deadline.
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
			t.Fatalf("event %d is %q (%v)", i, lines.Text(), lines.Err())
		}
		seen <- struct{}{}
	}
}

func TestResponseController(t *testing.T) {
	m := newTest(t, Options{})
	server := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if err := errors.Join(c.EnableFullDuplex(), c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})); err != nil {
			t.Errorf("the controller does not reach the server's writer: %v", err)
		}
	})))
	defer server.Close()
	fetch(t, server, mustRequest(t, server.URL))
}

func TestHTTP2(t *testing.T) {
	m := newTest(t, Options{})
	token := newToken(t, home, 100)
	server := httptest.NewUnstartedServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("hijack returns %v, want ErrNotSupported", err)
		}
		write(r.Context(), token)
		io.Copy(w, plain{strings.NewReader("hi")})
	})))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	res := fetch(t, server, mustRequest(t, server.URL))
	if body := read(t, res); res.ProtoMajor != 2 || body != "hi" {
		t.Errorf("the response is %q over %s, want hi over HTTP/2.0", body, res.Proto)
	}
	if got, _ := sent(t, m, res.Header); !got.Equal(token) {
		t.Errorf("the response carries %v, want %v", got, token)
	}
}

// The write was committed, whoever answers for the handler that panicked.
func TestPanic(t *testing.T) {
	m := newTest(t, Options{})
	token := newToken(t, home, 100)
	wrapped := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write(r.Context(), token)
		panic(http.ErrAbortHandler)
	}))
	t.Run("recovered", func(t *testing.T) {
		w := httptest.NewRecorder()
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("recovered %v, want the handler's own panic", got)
				}
				w.WriteHeader(http.StatusInternalServerError)
			}()
			wrapped.ServeHTTP(w, get())
		}()
		if got, _ := sent(t, m, w.Result().Header); !got.Equal(token) {
			t.Errorf("the recoverer's response carries %v, want %v", got, token)
		}
	})
	t.Run("not recovered", func(t *testing.T) {
		server := httptest.NewServer(wrapped)
		defer server.Close()
		if res, err := server.Client().Get(server.URL); err == nil {
			t.Errorf("the response is %d, want a broken connection", res.StatusCode)
		}
	})
}

// fast notes which of its shortcuts were taken.
type fast struct {
	http.ResponseWriter
	strings, copied int64
}

func (f *fast) WriteString(s string) (int, error) {
	f.strings += int64(len(s))
	return len(s), nil
}

func (f *fast) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, src)
	f.copied += n
	return n, err
}

// The shortcuts of the server's own writer stay open: sendfile is behind one.
func TestShortcuts(t *testing.T) {
	m, w := newTest(t, Options{}), &fast{ResponseWriter: httptest.NewRecorder()}
	m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hi")
		io.Copy(w, plain{strings.NewReader(strings.Repeat("x", 5000))})
	})).ServeHTTP(w, get())
	if w.strings != 2 || w.copied != 5000 {
		t.Errorf("WriteString got %d bytes and ReadFrom %d, want 2 and 5000", w.strings, w.copied)
	}
	w = &fast{ResponseWriter: httptest.NewRecorder()}
	serve := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, plain{strings.NewReader(strings.Repeat("x", 5000))})
	}))
	if serve.ServeHTTP(w, get()); w.copied != 5000-firstRead {
		t.Errorf("ReadFrom got %d bytes, want all but the first %d", w.copied, firstRead)
	}
}
