package main

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

// dsns are those of the replicas, through their proxies.
func (b *balance) dsns() (out []string, err error) {
	for i, n := range b.cluster.Replicas() {
		u, err := url.Parse(n.DSN())
		if err != nil {
			return nil, err
		}
		u.Host = b.before[i].address()
		out = append(out, u.String())
	}
	return out, nil
}

// reader is a way to read from the replicas.
type reader struct {
	name string
	// read returns the port of the server that was asked.
	read  func(context.Context) (port int, err error)
	close func()
}

const readItem = "select inet_server_port() from item where id = $1"

// policy is a way to open pgtide.
type policy struct {
	name      string
	balancing pgtide.Balancing
	eject     float64
}

var policies = []policy{
	{"LeastLoaded", pgtide.LeastLoaded, 0},
	{"LeastLoaded without ejection", pgtide.LeastLoaded, -1},
	{"RoundRobin", pgtide.RoundRobin, 0},
	{"RoundRobin without ejection", pgtide.RoundRobin, -1},
}

// routed opens the cluster with pgtide.
func (b *balance) routed(ctx context.Context, p policy) (reader, error) {
	dsns, err := b.dsns()
	if err != nil {
		return reader{}, err
	}
	o := pgtide.Options{
		Nodes:       []pgtide.Node{{Name: b.cluster.Primary().Name(), DSN: b.cluster.Primary().DSN()}},
		Balancing:   p.balancing,
		EjectFactor: p.eject,
		Configure: func(_ string, config *pgxpool.Config) error {
			config.MaxConns = connections
			return nil
		},
	}
	for i, n := range b.cluster.Replicas() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: dsns[i]})
	}
	db, err := pgtide.Open(ctx, o)
	if err != nil {
		return reader{}, err
	}
	read := func(ctx context.Context) (port int, err error) {
		err = db.QueryRow(ctx, readItem, 1).Scan(&port)
		return port, err
	}
	return reader{"pgtide " + p.name, read, db.Close}, nil
}

// byHand opens a pool for each replica, which are asked in turn.
func (b *balance) byHand(ctx context.Context) (reader, error) {
	dsns, err := b.dsns()
	if err != nil {
		return reader{}, err
	}
	var pools []*pgxpool.Pool
	closeAll := func() {
		for _, p := range pools {
			p.Close()
		}
	}
	for _, dsn := range dsns {
		config, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			closeAll()
			return reader{}, err
		}
		config.MaxConns = connections
		p, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			closeAll()
			return reader{}, err
		}
		pools = append(pools, p)
	}
	var turn atomic.Uint64
	read := func(ctx context.Context) (port int, err error) {
		p := pools[turn.Add(1)%uint64(len(pools))]
		err = p.QueryRow(ctx, readItem, 1).Scan(&port)
		return port, err
	}
	return reader{"pgxpool in turn", read, closeAll}, nil
}

// served is one call: when it was made, how long it took, and by which server.
type served struct {
	at   time.Time
	took time.Duration
	port int
}

// load has so many goroutines read for a time, each one call after the other.
func load(ctx context.Context, r reader, goroutines int, d time.Duration) ([]served, error) {
	calls := make([][]served, goroutines)
	errs := make([]error, goroutines)
	end := time.Now().Add(d)
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for {
				began := time.Now()
				if began.After(end) {
					return
				}
				ctx, cancel := context.WithTimeout(ctx, callLimit)
				port, err := r.read(ctx)
				cancel()
				if err != nil {
					errs[g] = fmt.Errorf("%s: %w", r.name, err)
					return
				}
				calls[g] = append(calls[g], served{began, time.Since(began), port})
			}
		})
	}
	group.Wait()
	var all []served
	for g := range goroutines {
		if errs[g] != nil {
			return nil, errs[g]
		}
		all = append(all, calls[g]...)
	}
	return all, nil
}
