package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// What the middleware may add to a request.
const (
	nsPerRequest     = 1500
	allocsPerRequest = 6
)

// httpSuite measures handlers below the middleware against the same handlers
// without it.
func httpSuite(ctx context.Context, r *report) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1}) // as for core
	if err != nil {
		return err
	}
	defer cluster.Close()
	r.Postgres = cluster.Version()
	if err := setup(ctx, cluster.Primary().DSN()); err != nil {
		return err
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	s := servers{primary: cluster.Primary().DSN(), replica: cluster.Replicas()[0].DSN()}
	if err := trips(ctx, r, s); err != nil {
		return err
	}
	if err := loopback(ctx, r, s); err != nil {
		return err
	}
	s.replay = &dialer{made: &sync.Map{}}
	return inProcess(ctx, r, s, cluster)
}

// site is a handler below the middleware, and what belongs to it.
type site struct {
	db         *pgtide.DB
	middleware *pgtidehttp.Middleware
}

func (s servers) site(ctx context.Context) (*site, error) {
	db, err := s.pgtide(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := pgtide.NewKeys([]byte("a key that signs nothing of worth"))
	if err != nil {
		return nil, err
	}
	return &site{db, pgtidehttp.New(db, pgtidehttp.Options{Keys: keys, Insecure: true})}, nil
}

// nothing is a handler that does nothing.
func nothing(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// read is one that reads a row.
func (s *site) read(w http.ResponseWriter, r *http.Request) {
	var v string
	answer(w, s.db.QueryRow(r.Context(), selectOne, 1).Scan(&v))
}

// write is one that writes a row.
func (s *site) write(w http.ResponseWriter, r *http.Request) {
	_, err := s.db.Exec(r.Context(), insertOne, "x")
	answer(w, err)
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// credentials are what a client holds that has written.
type credentials struct{ cookie, token string }

// login writes by a request and returns what its response brings.
func (s *site) login() (c credentials, err error) {
	w := httptest.NewRecorder()
	s.middleware.Wrap(http.HandlerFunc(s.write)).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	res := w.Result()
	if res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
		return c, fmt.Errorf("a request that writes: status %d, cookies %v: %s", res.StatusCode, res.Cookies(), w.Body)
	}
	cookie := res.Cookies()[0]
	return credentials{cookie.Name + "=" + cookie.Value, res.Header.Get(pgtidehttp.DefaultHeader)}, nil
}

// request is a GET that shows the credentials it is given.
func request(c credentials) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if c.cookie != "" {
		r.Header.Set("Cookie", "theme=dark; "+c.cookie)
	}
	if c.token != "" {
		r.Header.Set(pgtidehttp.DefaultHeader, c.token)
	}
	return r
}

// discard is the cheapest ResponseWriter there is.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// serving returns what serves one request with h.
func serving(h http.Handler, r *http.Request) func(context.Context) error {
	w := &discard{header: http.Header{}}
	return func(context.Context) error {
		clear(w.header)
		h.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			return fmt.Errorf("status %d", w.status)
		}
		return nil
	}
}

// inProcess measures what the middleware adds, without a network between client
// and handler, and with the servers' answers replayed.
func inProcess(ctx context.Context, r *report, s servers, cluster *lab.Cluster) error {
	site, err := s.site(ctx)
	if err != nil {
		return err
	}
	defer site.db.Close()
	// A cookie stays with its client for as long as a replica lacks the write.
	// There is no second write: it would be replayed.
	replica := cluster.Replicas()[0]
	if err := replica.PauseReplay(ctx); err != nil {
		return err
	}
	client, err := site.login()
	if err != nil {
		return err
	}
	noop, read := http.HandlerFunc(nothing), http.HandlerFunc(site.read)
	for _, a := range []addition{
		{"does nothing, cookie", noop, credentials{cookie: client.cookie}, false},
		{"reads, cookie", read, credentials{cookie: client.cookie}, false},
	} {
		if err := site.add(ctx, r, a); err != nil {
			return err
		}
	}
	if err := replica.ResumeReplay(ctx); err != nil {
		return err
	}
	token, err := site.db.CurrentToken(ctx)
	if err == nil {
		err = site.db.WaitFor(ctx, token)
	}
	if err != nil {
		return err
	}
	for _, a := range []addition{
		{"does nothing, no token", noop, credentials{}, false},
		{"does nothing, token in a header", noop, credentials{token: client.token}, false},
		{"reads, no token", read, credentials{}, false},
		{"reads, token in a header", read, credentials{token: client.token}, false},
		{"does nothing, cookie that is taken back", noop, credentials{cookie: client.cookie}, true},
	} {
		if err := site.add(ctx, r, a); err != nil {
			return err
		}
	}
	return nil
}

// addition is a handler whose request is measured with the middleware and
// without.
type addition struct {
	name    string
	handler http.Handler
	client  credentials
	once    bool // in the life of a token, so that it has no budget
}

func (s *site) add(ctx context.Context, r *report, a addition) error {
	ours := side{"wrapped", serving(s.middleware.Wrap(a.handler), request(a.client))}
	theirs := side{"plain", serving(a.handler, request(a.client))}
	var times samples
	// Batches so short that most are not interrupted, on a busy machine either.
	if err := times.compare(ctx, 10*r.rounds, 200, ours, theirs); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	added := 1000 * (median(times.ours) - median(times.theirs))
	name := "added to a handler that " + a.name
	r.add(result{Name: name, Ours: added, Unit: "ns", Budget: nsPerRequest, Shown: a.once})
	allocs := func(s side) float64 { return testing.AllocsPerRun(1000, func() { _ = s.do(ctx) }) }
	r.add(result{Name: name, Ours: allocs(ours) - allocs(theirs), Unit: "allocs", Budget: allocsPerRequest, Shown: a.once})
	return nil
}
