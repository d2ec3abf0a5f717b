package pgtidetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answerTimeout bounds one request to the handler under test.
const answerTimeout = 30 * time.Second

// Handler finds stale reads as [Run] does, in a handler that open makes for each of
// the two runs, on the pools that it opens with [Tide.DSN] or on the Tide's DB. The
// requests are made in their order by one client, as a browser does: it keeps
// cookies and follows redirects within the site.
//
//	func TestPost(t *testing.T) {
//		pgtidetest.Handler(t, func(t testing.TB, tide *pgtidetest.Tide) http.Handler {
//			return newServer(t, tide.DSN(tide.Primary()), tide.DSN(tide.Replicas()[0]))
//		},
//			httptest.NewRequest("POST", "/orders", strings.NewReader("tea")),
//			httptest.NewRequest("GET", "/orders", nil),
//		)
//	}
//
// It also fails the test if an answer's status is not the same in both runs, or
// says that the server failed. What one answer says cannot be put into the next
// request: for that use Run with a server and client of your own.
func Handler(t testing.TB, open func(t testing.TB, tide *Tide) http.Handler, requests ...*http.Request) {
	t.Helper()
	Finder{}.Handler(t, open, requests...)
}

// Handler is [Handler].
func (o Finder) Handler(t testing.TB, open func(t testing.TB, tide *Tide) http.Handler, requests ...*http.Request) {
	t.Helper()
	o.FindInHandler(t, open, requests...).tell(t)
}

// FindInHandler is [Finder.Handler] without a verdict, as Find is of Run.
func (o Finder) FindInHandler(t testing.TB, open func(t testing.TB, tide *Tide) http.Handler, requests ...*http.Request) Report {
	t.Helper()
	if len(requests) == 0 {
		t.Fatalf("pgtidetest: there are no requests to make of the handler: name them")
	}
	bodies := make([][]byte, len(requests))
	for i, r := range requests {
		if r.Body == nil {
			continue
		}
		var err error
		if bodies[i], err = io.ReadAll(r.Body); err != nil {
			t.Fatalf("pgtidetest: read the body of %s: %v", title(r), err)
		}
	}
	statuses := map[bool][]int{} // by whether replicas were fresh
	report := o.find(t, func(r *run, tide *Tide, w *witness) {
		b := newBrowser(r, open(r, tide))
		for i, request := range requests {
			w.enter(title(request))
			status, err := b.visit(request, bodies[i])
			if err != nil {
				r.Fatalf("%s: %v", title(request), err)
			}
			if status >= 500 && w.fresh {
				r.Errorf("%s is answered %d", title(request), status)
			}
			statuses[w.fresh] = append(statuses[w.fresh], status)
		}
	})
	for i := range min(len(statuses[false]), len(statuses[true])) {
		if frozen, fresh := statuses[false][i], statuses[true][i]; frozen != fresh {
			report.Answers = append(report.Answers, fmt.Sprintf("%s is answered %d with frozen replicas, and %d with fresh ones", title(requests[i]), frozen, fresh))
		}
	}
	return report
}

func title(r *http.Request) string { return r.Method + " " + r.URL.RequestURI() }

// browser makes requests of a real server, as one client. Names of hosts are those
// of the requests, so that cookies mean what they would.
type browser struct {
	client *http.Client
	name   string // of the host, where a request has none
}

func newBrowser(t testing.TB, h http.Handler) *browser {
	server := httptest.NewTLSServer(h) // browsers keep some cookies for TLS alone
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatalf("pgtidetest: %v", err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server.Listener.Addr().String())
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is our own, on loopback
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{name: "example.com", client: &http.Client{
		Transport: transport, Jar: jar, Timeout: answerTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 10 || r.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			r.URL.Scheme = "https"
			return nil
		},
	}}
}

// visit makes a request and returns the status that it ends with.
func (b *browser) visit(given *http.Request, body []byte) (int, error) {
	r := given.Clone(context.Background())
	r.RequestURI = "" // a server's field
	r.URL.Scheme = "https"
	if r.URL.Host == "" {
		if r.URL.Host = r.Host; r.URL.Host == "" {
			r.URL.Host = b.name
		}
	}
	r.Body, r.GetBody, r.ContentLength = http.NoBody, nil, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("%s", strings.TrimSpace(err.Error()))
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
