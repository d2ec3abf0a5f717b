package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
)

// olderRows is how many rows are there before the clients come.
const olderRows = 20

// addOlder writes the rows that clients without writes of their own read.
func (d *Demo) addOlder(ctx context.Context) error {
	rows, err := d.db.Query(ctx, "insert into message (text) select 'older ' || n from generate_series(1, $1) n returning id::text", olderRows)
	if err != nil {
		return fmt.Errorf("insert older rows: %w", err)
	}
	if d.older, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return fmt.Errorf("insert older rows: %w", err)
	}
	return nil
}

// tellClients lets many clients write and read at once, through the naive
// router and then through pgtide.
func (d *Demo) tellClients(ctx context.Context) error {
	d.story.title("3. %d HTTP clients at once, %d rounds each: POST, GET, PUT, GET; and a GET of an older row by somebody else",
		d.options.Clients, d.options.Rounds)
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	naive := serve(l, showServed(service.New(d.naive.Load())))
	before, err := d.drive(ctx, naive.url)
	naive.stop()
	if err != nil {
		return err
	}
	after, err := d.drive(ctx, d.api.url)
	if err != nil {
		return err
	}

	r := &d.story.report
	r.Naive = NaiveReads{Reads: before.reads, Stale: before.stale}
	r.Pgtide = PgtideReads{
		Reads: after.reads, Stale: after.stale,
		ReplicaReads: after.roles[string(pgtide.RoleReplica)], PrimaryReads: after.roles[string(pgtide.RolePrimary)],
	}
	d.story.expect("http_naive", "through the naive router clients miss what they wrote",
		before.stale > 0, "%d of %d reads were stale (%s); %s", before.stale, before.reads, percent(before.stale, before.reads), before.speed())
	d.story.expect("http_pgtide", "through pgtide nobody does",
		after.stale == 0 && after.reads > 0, "%d of %d reads were stale; %s", after.stale, after.reads, after.speed())
	d.story.expect("http_replicas", "replicas serve most of pgtide's reads",
		2*r.Pgtide.ReplicaReads > after.reads, "%d of %d (%s): %s",
		r.Pgtide.ReplicaReads, after.reads, percent(r.Pgtide.ReplicaReads, after.reads), after.places())
	if err := d.tellBrowser(ctx); err != nil {
		return err
	}
	d.story.expect("http_errors", "every request is answered as it should be",
		len(before.errs)+len(after.errs) == 0, "%s", complain(append(before.errs, after.errs...)))
	return nil
}

func complain(errs []error) string {
	if len(errs) == 0 {
		return "no errors"
	}
	return fmt.Sprintf("%d errors, the first one: %v", len(errs), errs[0])
}

// tally is what clients saw.
type tally struct {
	mu    sync.Mutex // guards the fields below
	reads int
	stale int
	nodes map[string]int
	roles map[string]int
	took  []time.Duration // each read
	errs  []error
}

func (t *tally) read(stale bool, header http.Header, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads++
	if stale {
		t.stale++
	}
	t.nodes[header.Get(headerNode)]++
	t.roles[header.Get(headerRole)]++
	t.took = append(t.took, took)
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

func (t *tally) places() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.nodes)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, t.nodes[name]))
	}
	return strings.Join(parts, ", ")
}

func (t *tally) speed() string {
	if len(t.took) == 0 {
		return "nothing was read"
	}
	slices.Sort(t.took)
	n := len(t.took)
	return fmt.Sprintf("a read took %s (median), %s (99th percentile)", millis(t.took[n/2]), millis(t.took[n*99/100]))
}

// drive lets the clients use the service at url and returns what they saw. It
// fails only if ctx ends.
func (d *Demo) drive(ctx context.Context, url string) (*tally, error) {
	t := &tally{nodes: map[string]int{}, roles: map[string]int{}}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: d.options.Clients,
	}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for n := range d.options.Clients {
		wg.Go(func() {
			jar, _ := cookiejar.New(nil) // it has no error to return
			c := client{ctx: ctx, url: url + service.Path, tally: t,
				own:      &http.Client{Transport: transport, Jar: jar, Timeout: 15 * time.Second},
				stranger: &http.Client{Transport: transport, Timeout: 15 * time.Second},
			}
			for round := range d.options.Rounds {
				older := d.older[(n+round)%len(d.older)]
				if err := c.round(fmt.Sprintf("client %d round %d", n, round), older); err != nil {
					t.fail(err)
				}
			}
		})
	}
	wg.Wait()
	return t, ctx.Err()
}

// client is a browser, and another one without cookies.
type client struct {
	ctx      context.Context
	url      string
	own      *http.Client
	stranger *http.Client
	tally    *tally
}

// round writes twice and reads each time at once.
func (c *client) round(text, older string) error {
	var created struct{ ID string }
	if _, _, err := c.do(c.own, "POST", "", text, http.StatusCreated, &created); err != nil {
		return err
	}
	if err := c.look(c.own, created.ID, text); err != nil {
		return err
	}
	text += ", changed"
	if _, _, err := c.do(c.own, "PUT", "/"+created.ID, text, http.StatusOK, nil); err != nil {
		return err
	}
	if err := c.look(c.own, created.ID, text); err != nil {
		return err
	}
	return c.look(c.stranger, older, "")
}

// look reads a message. The read is stale if the message is missing or has not
// the text that it should have, unless want is empty.
func (c *client) look(by *http.Client, id, want string) error {
	var m service.Message
	began := time.Now()
	status, header, err := c.do(by, "GET", "/"+id, "", 0, &m)
	switch {
	case err != nil:
		return err
	case status != http.StatusOK && status != http.StatusNotFound:
		return fmt.Errorf("GET %s: status %d", id, status)
	case header.Get(headerNode) == "":
		return errors.New("GET: the response does not say who served it")
	}
	c.tally.read(status == http.StatusNotFound || want != "" && m.Text != want, header, time.Since(began))
	return nil
}

// do makes one request and decodes the answer into v, if it is not nil. A
// status other than want is an error, unless want is 0.
func (c *client) do(by *http.Client, method, path, text string, want int, v any) (int, http.Header, error) {
	var body io.Reader
	if text != "" {
		encoded, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(c.ctx, method, c.url+path, body)
	if err != nil {
		return 0, nil, err
	}
	resp, err := by.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("%s: read the answer: %w", method, err)
	}
	if want != 0 && resp.StatusCode != want {
		return 0, nil, fmt.Errorf("%s: got status %d, want %d: %s", method, resp.StatusCode, want, bytes.TrimSpace(answer))
	}
	if v != nil {
		if err := json.Unmarshal(answer, v); err != nil {
			return 0, nil, fmt.Errorf("%s: decode the answer: %w", method, err)
		}
	}
	return resp.StatusCode, resp.Header, nil
}
