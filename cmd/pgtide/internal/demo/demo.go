// Package demo shows on a real cluster what replicas do to an application, and
// what pgtide makes of it.
//
// It starts a primary and two replicas, one of them some seconds late, puts the
// demo service on them and tells a story of four parts: a row inside its
// transaction, the same row after the commit, many clients over HTTP, and the
// death of the primary. Nothing in it is scripted: each line is an expectation
// and what was measured.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// Defaults of Options.
const (
	DefaultListen  = "127.0.0.1:8080"
	DefaultClients = 50
	DefaultRounds  = 5
	DefaultDelay   = 3 * time.Second
)

// MaxDelay is the longest Options.Delay.
const MaxDelay = 30 * time.Second

// maxCount is the most clients, and the most rounds.
const maxCount = 1000

// Options configure a Demo. The zero value is the demo as it is documented.
type Options struct {
	// Listen is the TCP address of the service. If its port is taken the next
	// free one is used; port 0 is any. Defaults to DefaultListen.
	Listen string
	// Clients is how many clients use the service at once. Defaults to
	// DefaultClients.
	Clients int
	// Rounds is how often each client writes and reads. Defaults to
	// DefaultRounds.
	Rounds int
	// Delay is how late one of the replicas is, at most MaxDelay. Defaults to
	// DefaultDelay.
	Delay time.Duration
	// Out is where the story is told. Nil is nowhere.
	Out io.Writer
}

// ErrOptions: a field of Options has a value that it cannot have.
var ErrOptions = errors.New("impossible option")

func (o Options) withDefaults() (Options, error) {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Clients == 0 {
		o.Clients = DefaultClients
	}
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.Delay == 0 {
		o.Delay = DefaultDelay
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	switch {
	case o.Clients < 0 || o.Clients > maxCount:
		return o, fmt.Errorf("%w: %d clients, want 1 to %d", ErrOptions, o.Clients, maxCount)
	case o.Rounds < 0 || o.Rounds > maxCount:
		return o, fmt.Errorf("%w: %d rounds, want 1 to %d", ErrOptions, o.Rounds, maxCount)
	case o.Delay < time.Millisecond || o.Delay > MaxDelay:
		return o, fmt.Errorf("%w: a delay of %v, want 1ms to %v", ErrOptions, o.Delay, MaxDelay)
	}
	return o, nil
}

// Demo is a cluster with the service on it. Its methods are for one goroutine.
type Demo struct {
	options Options
	story   story
	cluster *lab.Cluster
	fast    *lab.Node // the replica that keeps up
	slow    *lab.Node // the replica that is Options.Delay late
	db      *pgtide.DB
	naive   atomic.Pointer[naiveRouter]
	api     *server
	older   []string // ids of rows that are older than the story
}

// Start starts the cluster and the service, and returns once every replica has
// the schema, in a minute at most beside the delay of the slow one. Nothing is
// left behind if it does not succeed; else the caller must call [Demo.Close].
func Start(ctx context.Context, o Options) (*Demo, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Demo{options: o, story: story{out: o.Out}}
	if err := d.start(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Demo) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute+2*d.options.Delay, errors.New("the start takes too long"))
	defer cancel()
	// Taken first, so that a bad address is told before anything is started.
	listener, err := listen(ctx, d.options.Listen)
	if err != nil {
		return err
	}
	defer func() {
		if d.api == nil {
			listener.Close()
		}
	}()

	d.story.say("starting a primary and two replicas ...")
	began := time.Now()
	if d.cluster, err = lab.Start(ctx, lab.Options{Replicas: 2}); err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	replicas := d.cluster.Replicas()
	d.fast, d.slow = replicas[0], replicas[1]
	d.story.report.Postgres, d.story.report.Replicas = d.cluster.Version(), len(replicas)
	d.story.say("PostgreSQL %s, %s, in %s", d.cluster.Version(), seconds(time.Since(began)), d.cluster.Dir())
	if err := d.slow.SetApplyDelay(ctx, d.options.Delay); err != nil {
		return fmt.Errorf("delay %s: %w", d.slow.Name(), err)
	}
	for _, n := range d.cluster.Nodes() {
		d.story.say("  %s  127.0.0.1:%d  %s", n.Name(), n.Port(), d.describe(n))
	}

	if d.db, err = d.open(ctx); err != nil {
		return fmt.Errorf("open pgtide: %w", err)
	}
	naive, err := newNaiveRouter(ctx, d.cluster)
	if err != nil {
		return err
	}
	d.naive.Store(naive)
	began = time.Now()
	if err := service.Migrate(ctx, d.db); err != nil {
		return err
	}
	d.story.say("schema migrated on %s and seen on both replicas after %s", d.cluster.Primary().Name(), seconds(time.Since(began)))
	if err := d.addOlder(ctx); err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/{$}", &board{pgtide: d.db, naive: func() service.Store { return d.naive.Load() }})
	mux.Handle("/", service.New(d.db))
	d.api = serve(listener, pgtidehttp.New(d.db, pgtidehttp.Options{Keys: newKeys(), Insecure: true}).Wrap(showServed(mux)))
	d.story.say("the service listens on %s", d.api.url)
	_, wanted, _ := net.SplitHostPort(d.options.Listen)
	if _, got, _ := net.SplitHostPort(d.api.addr); got != wanted && wanted != "0" {
		d.story.say("  port %s is taken", wanted)
	}
	return nil
}

func (d *Demo) describe(n *lab.Node) string {
	switch n.Name() {
	case d.fast.Name():
		return "replica"
	case d.slow.Name():
		return fmt.Sprintf("replica, applies every commit %s late", seconds(d.options.Delay))
	}
	return "primary"
}

func (d *Demo) open(ctx context.Context) (*pgtide.DB, error) {
	o := pgtide.Options{Hooks: pgtide.Hooks{OnDecision: noteServed}}
	for _, n := range d.cluster.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	return pgtide.Open(ctx, o)
}

func newKeys() *pgtide.Keys {
	secret := make([]byte, 32)
	rand.Read(secret)
	keys, err := pgtide.NewKeys(secret)
	if err != nil {
		panic(err) // it only asks for enough bytes
	}
	return keys
}

// Tell tells the story. The report says what was expected and what happened;
// the error is for what kept the story from its end. It takes some 10 seconds,
// and never more than a minute beside the delay of the slow replica.
func (d *Demo) Tell(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute+2*d.options.Delay, errors.New("the story takes too long"))
	defer cancel()
	for _, part := range []func(context.Context) error{d.tellTransaction, d.tellClients, d.tellFailover} {
		if err := part(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause // what it made fail is of no interest
			}
			return d.story.report, err
		}
	}
	d.story.end()
	return d.story.report, nil
}

// Serve brings the cluster back to three nodes and serves the API until ctx
// ends. It is called after Tell.
func (d *Demo) Serve(ctx context.Context) error {
	if err := d.rejoin(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if err := d.renewNaive(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if ctx.Err() == nil {
		d.invite()
	}
	select {
	case <-ctx.Done():
	case err := <-d.api.failed:
		return fmt.Errorf("serve %s: %w", d.api.addr, err)
	}
	return nil
}

// Close stops the service and the cluster, and removes the cluster's folder.
func (d *Demo) Close() error {
	if d.cluster != nil {
		d.story.say("\nstopping the cluster ...")
	}
	if d.api != nil {
		d.api.stop()
	}
	if naive := d.naive.Load(); naive != nil {
		naive.close()
	}
	if d.db != nil {
		d.db.Close()
	}
	if d.cluster == nil {
		return nil
	}
	if err := d.cluster.Close(); err != nil {
		return fmt.Errorf("stop the cluster: %w", err)
	}
	d.story.say("the cluster is stopped, its folder removed")
	return nil
}
