package pgtidehttp

import (
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgtide/pgtide"
)

// maxTokens is how many tokens of one request are looked at, so that no request
// can make verifying expensive. A client needs one in the header and one cookie
// for each Domain and path that ever set it.
const maxTokens = 8

// receive returns what the good tokens of r together ask for.
func (m *Middleware) receive(r *http.Request) (t pgtide.Token) {
	n := 0
	for text := range m.texts(r) {
		if n++; n > maxTokens {
			m.drop(r, &m.stat.bad, fmt.Errorf("%w: more than %d in one request: the others are not looked at", pgtide.ErrBadToken, maxTokens))
			break
		}
		if text != "" {
			t = t.Merge(m.verify(r, text))
		}
	}
	return t
}

// texts yields what may be tokens: of the header, which proxies may have folded
// into one line with commas, and of the cookies.
func (m *Middleware) texts(r *http.Request) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range r.Header[m.header] {
			for text := range strings.SplitSeq(line, ",") {
				if !yield(strings.TrimSpace(text)) {
					return
				}
			}
		}
		for _, c := range r.CookiesNamed(m.cookie.Name) {
			if !yield(c.Value) {
				return
			}
		}
	}
}

// verify returns the token that text stands for, or the zero Token when it is
// dropped.
func (m *Middleware) verify(r *http.Request, text string) pgtide.Token {
	now := time.Now()
	t, err := m.keys.Verify(text, now, m.lifetime)
	switch {
	case err == nil && t.SystemID() == m.cluster():
		m.stat.received.Add(1)
		return t
	case err == nil:
		m.drop(r, &m.stat.foreign, fmt.Errorf("%w: of the cluster with system identifier %d", pgtide.ErrBadToken, t.SystemID()))
	case m.authentic(text, now):
		m.drop(r, &m.stat.expired, err)
	default:
		m.drop(r, &m.stat.bad, err)
	}
	return pgtide.Token{}
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
