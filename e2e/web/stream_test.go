package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pgtide/pgtide/pgtidehttp"
)

// streams are pages that need more of a ResponseWriter than to write.
func (i *instance) streams(t *testing.T) []page {
	file := filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(file, content(), 0o600); err != nil {
		t.Fatal(err)
	}
	return []page{
		{method: "GET", path: "/events", serve: http.HandlerFunc(i.events)},
		{method: "GET", path: "/socket", serve: http.HandlerFunc(i.socket)},
		{method: "GET", path: "/file", serve: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })},
		{method: "GET", path: "/controller", serve: http.HandlerFunc(i.controller)},
	}
}

// content is more than any buffer on the way holds.
func content() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 1<<16) }

func (i *instance) events(w http.ResponseWriter, r *http.Request) {
	id, ok := i.insert(w, r, "an event")
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %d\n\n", id)
	w.(http.Flusher).Flush()
	select {
	case <-i.proceed:
		fmt.Fprint(w, "data: the end\n\n")
	case <-r.Context().Done():
	}
}

// events reads the first event while the handler waits with the second.
func events(t *testing.T, a, b *instance) {
	browser := newClient(true)
	res, err := browser.Get(a.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Scan()
	id, ok := strings.CutPrefix(lines.Text(), "data: ")
	if !ok {
		t.Fatalf("the first event is %q", lines.Text())
	}
	// The token came with the header: the stream is still open.
	shows(t, browser, b, "/note?id="+id, "an event", nil)
	select {
	case a.proceed <- struct{}{}:
	case <-time.After(10 * time.Second):
		t.Fatal("the handler does not wait any more: the stream was cut")
	}
	for lines.Scan() && lines.Text() != "data: the end" {
	}
	if lines.Text() != "data: the end" {
		t.Errorf("the last event is %q: %v", lines.Text(), lines.Err())
	}
}

func (i *instance) socket(w http.ResponseWriter, r *http.Request) {
	id, ok := i.insert(w, r, "before the upgrade")
	if !ok {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	_ = conn.Write(ctx, websocket.MessageText, fmt.Append(nil, id))
	_, text, err := conn.Read(ctx)
	if err != nil {
		return
	}
	// What is written on an open socket is seen on it.
	var got string
	err = i.db.QueryRow(ctx, "insert into note (text) values ($1) returning id", string(text)).Scan(&id)
	if err == nil {
		err = i.db.QueryRow(ctx, "select text from note where id = $1", id).Scan(&got)
	}
	if err != nil {
		got = err.Error()
	}
	_ = conn.Write(ctx, websocket.MessageText, []byte(got))
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

func sockets(t *testing.T, a, b *instance) {
	browser := newClient(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, strings.Replace(a.URL, "http", "ws", 1)+"/socket", &websocket.DialOptions{HTTPClient: &http.Client{Jar: browser.Jar}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if res.Header.Get(pgtidehttp.DefaultHeader) == "" {
		t.Error("the answer to the upgrade carries no token")
	}
	_, id, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	shows(t, browser, b, "/note?id="+string(id), "before the upgrade", nil)
	if err := conn.Write(ctx, websocket.MessageText, []byte("said on the socket")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(ctx); err != nil || string(got) != "said on the socket" {
		t.Errorf("the socket reads %q of what it wrote, %v", got, err)
	}
}

// files asks for the whole of a file and for a part of it. echo and gin keep the
// server's sendfile away by themselves.
func files(t *testing.T, r router, a *instance) {
	a.copied.n.Store(0)
	res, body := do(t, newClient(false), "GET", a.URL+"/file", "", nil)
	if res.StatusCode != http.StatusOK || body != string(content()) || res.ContentLength != int64(len(body)) {
		t.Errorf("status %d, %d bytes, Content-Length %d", res.StatusCode, len(body), res.ContentLength)
	}
	if r.copies && a.copied.n.Load() == 0 {
		t.Error("ReadFrom of the server's writer was not called")
	}
	res, body = do(t, newClient(false), "GET", a.URL+"/file", "", http.Header{"Range": {"bytes=16-31"}})
	if res.StatusCode != http.StatusPartialContent || body != "0123456789abcdef" {
		t.Errorf("a part: status %d, %q", res.StatusCode, body)
	}
}

// reads counts the calls of ReadFrom that come through to the server's writer.
type reads struct{ n atomic.Int64 }

func (c *reads) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&counted{w, c}, r) })
}

type counted struct {
	http.ResponseWriter
	reads *reads
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counted) ReadFrom(src io.Reader) (int64, error) {
	c.reads.n.Add(1)
	return c.ResponseWriter.(io.ReaderFrom).ReadFrom(src)
}

func (i *instance) controller(w http.ResponseWriter, r *http.Request) {
	id, ok := i.insert(w, r, "controlled")
	if !ok {
		return
	}
	rc := http.NewResponseController(w)
	for what, err := range map[string]error{
		"SetReadDeadline":  rc.SetReadDeadline(time.Now().Add(time.Minute)),
		"SetWriteDeadline": rc.SetWriteDeadline(time.Now().Add(time.Minute)),
		"EnableFullDuplex": rc.EnableFullDuplex(),
	} {
		if err != nil {
			http.Error(w, what+": "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("X-Id", fmt.Sprint(id))
	if err := rc.Flush(); err != nil {
		fmt.Fprint(w, "Flush: ", err)
	}
}

func controller(t *testing.T, a, b *instance) {
	browser := newClient(true)
	res, body := do(t, browser, "GET", a.URL+"/controller", "", nil)
	if res.StatusCode != http.StatusOK || body != "" {
		t.Errorf("%d %q, want 200 and nothing to complain about", res.StatusCode, body)
	}
	shows(t, browser, b, "/note?id="+res.Header.Get("X-Id"), "controlled", nil)
}
