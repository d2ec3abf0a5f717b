package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// clients are how many of them call at once.
var clients = []int{1, 64}

// loopback compares servers with the middleware and without it, over real
// connections: this process is their client, too.
func loopback(ctx context.Context, r *report, s servers) error {
	site, err := s.site(ctx)
	if err != nil {
		return err
	}
	defer site.db.Close()
	client, err := site.login()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name    string
		handler http.Handler
		client  credentials
		n       int // requests a round
	}{
		{"does nothing, cookie", http.HandlerFunc(nothing), client, 1024},
		{"reads, no token", http.HandlerFunc(site.read), credentials{}, 512},
		{"reads, token in a header", http.HandlerFunc(site.read), credentials{token: client.token}, 512},
	} {
		for _, n := range clients {
			if err := overLoopback(ctx, r, fmt.Sprintf("requests to a handler that %s, %d clients", c.name, n),
				site.middleware.Wrap(c.handler), c.handler, c.client, n, c.n); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// overLoopback reports requests per second. Their ratio is that of the times, as
// everywhere: more than one is slower.
func overLoopback(ctx context.Context, r *report, name string, ours, theirs http.Handler, c credentials, clients, n int) error {
	a, b := newCaller(ours, c, clients), newCaller(theirs, c, clients)
	defer a.close()
	defer b.close()
	var times samples
	err := times.compare(ctx, max(1, r.rounds/3), 1, side{"wrapped", spread(clients, n, a.call)}, side{"plain", spread(clients, n, b.call)})
	if err != nil {
		return err
	}
	perSecond := func(us []float64) float64 { return 1e6 * float64(n) / median(us) }
	r.add(result{
		Name: name, Ours: perSecond(times.ours), Theirs: perSecond(times.theirs), Against: "without",
		Unit: "req/s", Ratio: median(times.ratios), Shown: true,
	})
	return nil
}

// caller is a server and the client that calls it.
type caller struct {
	server *httptest.Server
	client *http.Client
	header http.Header
}

func newCaller(h http.Handler, c credentials, clients int) *caller {
	return &caller{
		server: httptest.NewServer(h),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}},
		header: request(c).Header,
	}
}

func (c *caller) call(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.URL, nil)
	if err != nil {
		return err
	}
	r.Header = c.header
	res, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}

func (c *caller) close() {
	c.client.CloseIdleConnections()
	c.server.Close()
}
