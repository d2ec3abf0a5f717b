package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgtide/pgtide"
)

// DefaultEndpointTimeout is how long an endpoint of [Patroni] may take.
const DefaultEndpointTimeout = 2 * time.Second

const (
	// headStart is what an endpoint gets before the next one is asked too.
	headStart = 250 * time.Millisecond
	// maxBody is far more than a cluster of pgtide.MaxNodes needs.
	maxBody = 1 << 20
)

var _ pgtide.Discoverer = Patroni{}

// Patroni asks the REST API of a Patroni cluster who its members are: GET
// /cluster, which any of them answers for all.
//
// A node's name, host and port are the member's. Left out are members that have
// no server to talk to yet, as they are being created, and, unless it is the
// leader, one with the tag noloadbalance: it is not to be read from. When
// such a member becomes the leader it joins, with the next answer. Other states
// than running, other tags and the role decide nothing: pgtide asks the
// servers.
type Patroni struct {
	// Endpoints are where the REST APIs are: http://10.0.0.1:8008, or 10.0.0.1:8008.
	// They are asked in this order, each after the one before it has failed or
	// taken a quarter of a second; the first good answer is taken. Two or three
	// members are enough.
	Endpoints []string
	// DSN is that of every node. A host and port in it are not used, but that a
	// member without a port has the DSN's.
	DSN string
	// Client asks; it knows about proxies, TLS and, in its Transport, passwords.
	// Nil means one that trusts what the system trusts, and keeps no connection.
	// A user and password in an endpoint's URL are sent too.
	Client *http.Client
	// Timeout is how long one endpoint may take. Zero means
	// DefaultEndpointTimeout.
	Timeout time.Duration
	// Map, if set, may change the node made of a member, and leaves it out if it
	// returns false. It is where tags become groups or zones.
	Map func(m Member, n *pgtide.Node) bool

	_ struct{} // field names are required
}

// defaultClient makes a request each few seconds, to servers that come and go.
var defaultClient = &http.Client{Transport: &http.Transport{
	Proxy:             http.ProxyFromEnvironment,
	DisableKeepAlives: true,
}}

// Discover asks the endpoints.
func (p Patroni) Discover(ctx context.Context) ([]pgtide.Node, error) {
	nodes, err := p.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("Patroni: %w", err)
	}
	return nodes, nil
}

func (p Patroni) discover(ctx context.Context) ([]pgtide.Node, error) {
	if len(p.Endpoints) == 0 {
		return nil, errors.New("there are no Endpoints to ask")
	}
	t, err := parseTemplate(p.DSN)
	if err != nil {
		return nil, err
	}
	endpoints := make([]*url.URL, len(p.Endpoints))
	for i, text := range p.Endpoints {
		if endpoints[i], err = parseEndpoint(text); err != nil {
			return nil, fmt.Errorf("endpoint %d %w", i+1, err)
		}
	}
	members, err := p.members(ctx, endpoints)
	if err != nil {
		return nil, err
	}
	return p.nodes(t, members)
}

// parseEndpoint says nothing of a text that may hold a password.
func parseEndpoint(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("is not like http://host:8008 or host:8008")
	}
	return u.JoinPath("cluster"), nil
}

// members returns the first good answer of the endpoints, or why there is none.
func (p Patroni) members(ctx context.Context, endpoints []*url.URL) ([]Member, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of those that are still asked
	type answer struct {
		members []Member
		err     error
	}
	answers := make(chan answer, len(endpoints)) // so that none of them stays behind
	var errs []error
	next := time.NewTimer(0)
	defer next.Stop()
	for asked := 0; len(errs) < len(endpoints); {
		var due <-chan time.Time
		if asked < len(endpoints) {
			due = next.C
		}
		select {
		case <-due:
			u := endpoints[asked]
			asked++
			go func() {
				members, err := p.get(ctx, u)
				answers <- answer{members, err}
			}()
			next.Reset(headStart)
		case a := <-answers:
			if a.err == nil {
				return a.members, nil
			}
			errs = append(errs, a.err)
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(append(errs, context.Cause(ctx))...)
		}
	}
	return nil, errors.Join(errs...)
}

// get asks one endpoint. Errors name its host: the rest may hold a password.
func (p Patroni) get(ctx context.Context, u *url.URL) ([]Member, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, DefaultEndpointTimeout))
	defer cancel()
	members, err := p.fetch(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Host, err)
	}
	return members, nil
}

func (p Patroni) fetch(ctx context.Context, u *url.URL) ([]Member, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it is no URL to ask")
	}
	response, err := cmp.Or(p.Client, defaultClient).Do(request)
	if err != nil {
		var quoted *url.Error
		if errors.As(err, &quoted) {
			err = quoted.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxBody)
	}
	return parseMembers(body)
}
