package pgtidehttp

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgtide/pgtide"
)

// maxTokens is how many tokens of one request are looked at, so that no request
// can make verifying expensive: it is about 1 us each. Browsers keep fewer
// cookies than this for a site, so who brings more has made them up, and loses
// only what it is shown itself.
const maxTokens = 256

// wroteMark stands in front of a token that was sent because the session had
// written. It is not signed: who adds one to a good token is pinned for as long
// as that token is young, and no longer.
const wroteMark = "w."

// nameSize is how many characters of its token end a cookie's name: of the
// signature, so that two tokens do not get the same name.
const nameSize = 8

// receive collects what the good tokens of r together ask for.
func (m *Middleware) receive(out *response, r *http.Request) {
	headers, cookies := r.Header[m.header], r.Header["Cookie"]
	if len(headers) == 0 && len(cookies) == 0 {
		return
	}
	in := incoming{m: m, out: out, now: time.Now()}
	for _, line := range headers {
		// Proxies may have folded several lines into one.
		for text := range strings.SplitSeq(line, ",") {
			if !in.take("", strings.TrimSpace(text)) {
				return
			}
		}
	}
	for _, line := range cookies {
		for pair := range strings.SplitSeq(line, ";") {
			name, text, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if !ok || !m.owns(name) {
				continue
			}
			if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
				text = text[1 : len(text)-1]
			}
			if !in.take(name, text) {
				return
			}
		}
	}
	if out.ctx.scope.pinned {
		m.stat.pinned.Add(1)
	}
}

// owns reports whether a cookie of this name is a token's.
func (m *Middleware) owns(name string) bool {
	rest, ok := strings.CutPrefix(name, m.cookie.Name)
	return ok && len(rest) == 1+nameSize && rest[0] == '-'
}

// name is that of the cookie that carries text, with its wroteMark if it has one.
// The same token with one is another cookie: the one without must not lift its pin. A name never stands for another
// token: so no response can take back one that it has not seen, in whatever
// order a browser gets responses to requests it made at once.
func (m *Middleware) name(text string) string {
	end := len(text)
	if strings.HasPrefix(text, wroteMark) {
		end--
	}
	return m.cookie.Name + "-" + text[end-nameSize:end]
}

// incoming reads the tokens of one request.
type incoming struct {
	m      *Middleware
	out    *response
	now    time.Time
	looked int
}

// take looks at one token, in the cookie of this name if it has one. It reports
// false when there are too many.
func (in *incoming) take(name, text string) bool {
	m, out := in.m, in.out
	if in.looked++; in.looked > maxTokens {
		m.drop(out.request, &m.stat.bad, fmt.Errorf("%w: more than %d in one request: the others are not looked at", pgtide.ErrBadToken, maxTokens))
		return false
	}
	if text == "" {
		return true
	}
	text, wrote := strings.CutPrefix(text, wroteMark)
	t, ok := in.verify(text)
	if !ok {
		return true
	}
	out.carried = out.carried.Merge(t)
	out.called = out.called || name == ""
	pins := false
	if wrote && m.pinFor > 0 {
		_, err := m.keys.Verify(text, in.now, m.pinFor)
		pins = err == nil
	}
	switch {
	case pins:
		out.ctx.scope.pinned = true
		if name != "" {
			out.pins = append(out.pins, name)
		}
	case name != "":
		if out.cookies == nil {
			out.cookies = out.few[:0]
		}
		out.cookies = append(out.cookies, name)
	}
	return true
}

// verify returns the token that text stands for; ok is false when it is dropped.
func (in *incoming) verify(text string) (t pgtide.Token, ok bool) {
	m, r := in.m, in.out.request
	t, err := m.keys.Verify(text, in.now, m.lifetime)
	switch {
	case err == nil && t.IsZero():
		m.drop(r, &m.stat.bad, fmt.Errorf("%w: it is empty", pgtide.ErrBadToken))
	case err == nil && t.SystemID() == m.db.SystemID():
		m.stat.received.Add(1)
		return t, true
	case err == nil:
		m.drop(r, &m.stat.foreign, fmt.Errorf("%w: of the cluster with system identifier %d", pgtide.ErrBadToken, t.SystemID()))
	case m.authentic(text, in.now):
		m.drop(r, &m.stat.expired, err)
	default:
		m.drop(r, &m.stat.bad, err)
	}
	return pgtide.Token{}, false
}

// authentic reports whether text is good but for its age.
func (m *Middleware) authentic(text string, now time.Time) bool {
	_, err := m.keys.Verify(text, now, 0)
	return err == nil
}

func (m *Middleware) drop(r *http.Request, count *atomic.Int64, err error) {
	count.Add(1)
	if m.onBadToken != nil {
		m.onBadToken(r, err)
	}
}
