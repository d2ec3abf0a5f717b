package pgtidehttp

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

const (
	// manyCookies is how many cookies of a request are put together into one,
	// although it has nothing new: proxies refuse long headers.
	manyCookies = 8
	// maxCleared is how many a response takes back: proxies refuse its header
	// too when it is long. The rest is left to the next one.
	maxCleared = 16
)

// changed returns the session's token, and whether the client needs it.
func (w *response) changed() (pgtide.Token, bool) {
	t, ok := pgtide.TokenFrom(&w.ctx)
	return t, ok && !t.Equal(w.carried) && t.SystemID() == w.m.db.SystemID()
}

// carry puts the session's token into the header, if the client needs it, and
// takes back cookies that it does not need any more.
func (w *response) carry() {
	t, changed := w.changed()
	switch {
	case changed:
		w.carried = t
		w.raise(t)
		w.set(t, w.m.pinFor > 0 && w.mayHaveWritten())
	case len(w.cookies) > manyCookies:
		w.set(w.carried, false)
	case len(w.cookies) > 0 && w.m.db.Settled(w.carried):
		w.clear("")
	}
	if !changed && w.called && !w.carried.Covers(w.carried) {
		w.answer()
	}
}

// answer sends a token back that has not changed, to a service whose session may go
// on: what was done here at a position that is not known may be later than what
// it takes the same token for. A browser has only what it brings again.
func (w *response) answer() {
	h := w.out.Header()
	if text := w.m.keys.Sign(w.carried, time.Now()); text != "" {
		w.m.stat.sent.Add(1)
		h.Set(w.m.header, text)
	}
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", "private")
	}
}

// set sends t, in place of the cookies that the request has brought: they are a
// part of it.
func (w *response) set(t pgtide.Token, wrote bool) {
	text := w.m.keys.Sign(t, time.Now())
	if text == "" {
		return // keys that sign nothing
	}
	w.m.stat.sent.Add(1)
	cookie := w.m.cookie
	if wrote {
		text = wroteMark + text
		w.cookies = append(w.cookies, w.pins...) // the new one pins for longer
	}
	cookie.Name, cookie.Value = w.m.name(text), text
	h := w.out.Header()
	h.Set(w.m.header, text)
	w.clear(cookie.Name)
	h.Add("Set-Cookie", cookie.String())
	if len(h["Cache-Control"]) == 0 {
		h.Set("Cache-Control", "private")
	}
}

// clear takes the request's cookies back, but for the one of the name except.
func (w *response) clear(except string) {
	h := w.out.Header()
	if lines := h["Set-Cookie"]; len(lines) > 0 {
		// A Wrap inside this one has set and cleared them too.
		h["Set-Cookie"] = slices.DeleteFunc(lines, func(line string) bool {
			name, value, _ := strings.Cut(line, "=")
			value, _, _ = strings.Cut(value, ";")
			return w.m.owns(name) && w.covers(value, except != "")
		})
	}
	cookie := w.m.cookie
	cookie.MaxAge = -1
	for i, name := range w.cookies {
		if i == maxCleared {
			break
		}
		if name != except {
			cookie.Name = name
			h.Add("Set-Cookie", cookie.String())
			w.m.stat.cleared.Add(1)
		}
	}
}

// covers reports whether a cookie that this response has set can go: it takes one
// back, or holds what the token that is sent now holds too. One of another cluster,
// or of a session begun by the handler, does not.
func (w *response) covers(text string, sends bool) bool {
	if text == "" {
		return true
	}
	t, err := w.m.keys.Verify(strings.TrimPrefix(text, wroteMark), time.Now(), 0)
	return sends && err == nil && t.SystemID() == w.carried.SystemID() && w.carried.Merge(t).Equal(w.carried)
}

// mayHaveWritten reports whether the request may have done more than read: under
// consistency Session reads move the token too.
func (w *response) mayHaveWritten() bool {
	if w.wroteElsewhere.Load() {
		return true
	}
	decisions := pgtide.Explain(&w.ctx)
	return len(decisions) >= 64 || slices.ContainsFunc(decisions, func(d pgtide.Decision) bool {
		switch d.Reason {
		case pgtide.ReasonWrite, pgtide.ReasonUnclassified, pgtide.ReasonSessionBound, pgtide.ReasonTransaction, pgtide.ReasonRefused:
			return true
		case pgtide.ReasonNamed, pgtide.ReasonPinned:
			return d.Role == pgtide.RolePrimary
		}
		return false
	}) || len(decisions) == 0 // what moved the token was not done through a DB
}

// forget takes back the cookies that the handler has set: they may name what is
// not there, as that of a login does.
func (w *response) forget() {
	h := w.out.Header()
	if lines := h["Set-Cookie"]; len(lines) > w.before {
		h["Set-Cookie"] = lines[:w.before:w.before]
	}
	for _, name := range []string{"Cache-Control", "Expires"} {
		h.Del(name) // what they say is of another answer
	}
}

// fail answers in the handler's place.
func (w *response) fail() {
	h := w.out.Header()
	h.Set("Cache-Control", "no-store")
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition", "Etag", "Last-Modified", "Location", "Trailer"} {
		h.Del(name)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.out.WriteHeader(http.StatusInternalServerError)
	_, _ = w.out.Write([]byte(http.StatusText(http.StatusInternalServerError) + "\n"))
}
