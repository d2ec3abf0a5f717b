package pgtidehttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

// response is the ResponseWriter that handlers see. Like any, it is for one
// goroutine at a time.
type response struct {
	out     http.ResponseWriter
	m       *Middleware
	ctx     context.Context
	carried pgtide.Token // what the client has, or will have with this response
	begun   bool         // the header is out, or hijacked
}

var (
	_ http.Flusher    = (*response)(nil)
	_ http.Hijacker   = (*response)(nil)
	_ io.ReaderFrom   = (*response)(nil)
	_ io.StringWriter = (*response)(nil)
)

// begin adds the session's token to the header, which is about to be sent. It
// reports whether this is the first time.
func (w *response) begin() bool {
	if w.begun {
		return false
	}
	w.begun = true
	if t, changed := w.changed(); changed {
		w.carry(t)
	}
	return true
}

// changed returns the session's token, and whether the client needs it.
func (w *response) changed() (pgtide.Token, bool) {
	t, ok := pgtide.TokenFrom(w.ctx)
	return t, ok && !t.Equal(w.carried) && t.SystemID() == w.m.cluster()
}

func (w *response) carry(t pgtide.Token) {
	w.carried = t
	w.m.stat.sent.Add(1)
	text := w.m.keys.Sign(t, time.Now())
	h := w.out.Header()
	h.Set(w.m.header, text)
	cookie := w.m.cookie
	cookie.Value = text
	// A Wrap inside this one has set the cookie too.
	h["Set-Cookie"] = append(slices.DeleteFunc(h["Set-Cookie"], func(line string) bool {
		return strings.HasPrefix(line, cookie.Name+"=")
	}), cookie.String())
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", "private")
	}
}

// finish ends the request. The server sends the header now if nobody did.
func (w *response) finish() {
	if w.begin() {
		return
	}
	if _, changed := w.changed(); changed {
		w.m.stat.late.Add(1)
	}
}

// Header implements [http.ResponseWriter].
func (w *response) Header() http.Header { return w.out.Header() }

// WriteHeader implements [http.ResponseWriter].
func (w *response) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begin()
	}
	w.out.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *response) Write(b []byte) (int, error) {
	w.begin()
	return w.out.Write(b)
}

// WriteString implements [io.StringWriter].
func (w *response) WriteString(s string) (int, error) {
	w.begin()
	return io.WriteString(w.out, s)
}

// firstRead is how much ReadFrom copies by itself: what [http.DetectContentType]
// looks at, so that the server behind keeps to its fast path.
const firstRead = 512

// ReadFrom implements [io.ReaderFrom]: io.Copy of a file reaches sendfile.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	var first int64
	if !w.begun {
		// The source may do the request's work when it is first read, so the
		// header must not be begun before.
		var err error
		first, err = io.Copy(struct{ io.Writer }{w}, io.LimitReader(src, firstRead))
		if err != nil || first < firstRead {
			return first, err
		}
	}
	rest, err := io.Copy(w.out, src)
	return first + rest, err
}

// Flush implements [http.Flusher].
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController.Flush] calls.
func (w *response) FlushError() error {
	first := w.begin()
	err := http.NewResponseController(w.out).Flush()
	w.takeBack(first, err)
	return err
}

// Hijack implements [http.Hijacker].
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	first := w.begin()
	conn, rw, err := http.NewResponseController(w.out).Hijack()
	w.takeBack(first, err)
	return conn, rw, err
}

// takeBack notes that the header was not sent after all: what the handler does
// from now on can still be carried.
func (w *response) takeBack(first bool, err error) {
	if first && errors.Is(err, http.ErrNotSupported) {
		w.begun = false
	}
}

// Unwrap lets [http.ResponseController] find what response does not have.
func (w *response) Unwrap() http.ResponseWriter { return w.out }
