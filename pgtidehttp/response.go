package pgtidehttp

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/pgtide/pgtide"
)

// response is the ResponseWriter that handlers see. Like any, it is for one
// goroutine at a time.
type response struct {
	out     http.ResponseWriter
	m       *Middleware
	request *http.Request // as it came to Wrap
	ctx     scoped        // what the handler is served in
	carried pgtide.Token  // what the client has, or will have with this response
	begun   bool          // the header is out, or hijacked
	// wroteElsewhere says that another service wrote for the request: see Transport.
	wroteElsewhere atomic.Bool
	err            error // why another header was sent than the handler's

	// Names of the cookies that the request brought: those that pin, and others.
	pins, cookies []string
	few           [2]string // what cookies holds in most requests
	before        int       // how many cookies were set further out
	called        bool      // a token came in a header: from a service, perhaps

	key string       // in the Store
	tx  *transaction // of the request: own, or that of a Wrap further out on the same DB
	own transaction
}

var (
	_ http.Flusher    = (*response)(nil)
	_ http.Hijacker   = (*response)(nil)
	_ io.ReaderFrom   = (*response)(nil)
	_ io.StringWriter = (*response)(nil)
)

// begin does what is to be done before a header of this status is sent: it ends
// the transaction and adds the session's token. It reports whether this is the
// first time. With w.err set another header has been sent.
func (w *response) begin(status int) bool {
	if w.begun {
		return false
	}
	w.begun = true
	w.err = w.tx.end(&w.ctx, status < http.StatusInternalServerError, &w.m.stat)
	if w.err != nil {
		w.forget()
	}
	w.carry()
	if w.err != nil {
		if w.m.onCommitError != nil {
			w.m.onCommitError(w.request, w.err)
		}
		w.fail()
	}
	return true
}

// finish ends the request. The server sends the header now if nobody did. A
// handler that has not returned has panicked.
func (w *response) finish(returned bool) {
	status := http.StatusOK
	if !returned {
		status = http.StatusInternalServerError
	}
	if w.begin(status) {
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
		w.begin(status)
	}
	if w.err == nil {
		w.out.WriteHeader(status)
	}
}

// Write implements [http.ResponseWriter]. The error is [ErrNotCommitted] where
// [Tx] says so.
func (w *response) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
	return w.out.Write(b)
}

// WriteString implements [io.StringWriter].
func (w *response) WriteString(s string) (int, error) {
	w.begin(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
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
	if w.err != nil {
		return first, w.err
	}
	rest, err := io.Copy(w.out, src)
	return first + rest, err
}

// Flush implements [http.Flusher].
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController.Flush] calls.
func (w *response) FlushError() error {
	if !supports[interface{ FlushError() error }](w.out) && !supports[http.Flusher](w.out) {
		return http.ErrNotSupported // no header is sent: nothing ends
	}
	first := w.begin(http.StatusOK)
	if w.err != nil {
		return w.err
	}
	err := http.NewResponseController(w.out).Flush()
	w.takeBack(first, err)
	return err
}

// Hijack implements [http.Hijacker].
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !supports[http.Hijacker](w.out) {
		return nil, nil, http.ErrNotSupported
	}
	first := w.begin(http.StatusSwitchingProtocols)
	if w.err != nil {
		return nil, nil, w.err
	}
	conn, rw, err := http.NewResponseController(w.out).Hijack()
	w.takeBack(first, err)
	return conn, rw, err
}

// takeBack notes that the header was not sent after all, by a writer that has the
// method and cannot: what the handler does from now on can still be carried,
// though its transaction has ended.
func (w *response) takeBack(first bool, err error) {
	if first && errors.Is(err, http.ErrNotSupported) {
		w.begun = false
	}
}

// supports reports whether w, or what it wraps, is a T: what
// [http.ResponseController] would call.
func supports[T any](w http.ResponseWriter) bool {
	for {
		if inner, ok := w.(*response); ok { // it has everything, and may only pass it on
			w = inner.out
			continue
		}
		if _, ok := w.(T); ok {
			return true
		}
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = outer.Unwrap()
	}
}

// Unwrap lets [http.ResponseController] find what response does not have.
func (w *response) Unwrap() http.ResponseWriter { return w.out }
