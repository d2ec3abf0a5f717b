package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Lease is a cluster that nobody else uses. Its methods may be called by many
// goroutines at once.
type Lease struct {
	conn net.Conn

	mu      sync.Mutex // guards the fields below, and the conversation
	decoder *json.Decoder
	cluster Cluster
}

// errEnding means that the keeper is about to end: there will be another.
var errEnding = errors.New("the keeper is ending")

// Take leases a cluster of this kind, and starts a keeper if there is none.
// template names the template that will be used there.
func Take(ctx context.Context, dir string, spec Spec, test, template string) (*Lease, error) {
	if err := checkEnv(); err != nil {
		return nil, err
	}
	for {
		l, err := take(ctx, dir, spec, test, template)
		if err == nil || !errors.Is(err, errEnding) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the keeper of the test clusters to end: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond): // its end is a free lock, which sends no signal
		}
	}
}

func take(ctx context.Context, dir string, spec Spec, test, template string) (*Lease, error) {
	conn, err := dial(ctx, dir)
	if err != nil {
		if conn, err = summon(ctx, dir); err != nil {
			return nil, err
		}
	}
	l := &Lease{conn: conn, decoder: json.NewDecoder(conn)}
	wait := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	err = l.ask(ctx, request{Op: opLease, Spec: spec, Template: template, Wait: wait, Holder: Holder{PID: os.Getpid(), Test: test}})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(dir, socketFile))
}

// summon starts a keeper, or waits for the one that another process starts.
func summon(ctx context.Context, dir string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond) // a socket that appears sends no signal
	defer ticker.Stop()
	launched := false
	for {
		if conn, err := dial(ctx, dir); err == nil {
			return conn, nil
		}
		if !launched {
			lock, err := tryLock(filepath.Join(dir, spawnFile))
			if err != nil {
				return nil, fmt.Errorf("start the keeper of the test clusters: %w", err)
			}
			if lock != nil {
				defer lock.Close() // others wait for ours
				launched = true
				if err := launch(ctx, dir); err != nil {
					return nil, fmt.Errorf("start the keeper of the test clusters: %w", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("start the keeper of the test clusters in %s: %w; it logged: %s", dir, context.Cause(ctx), logTail(dir))
		case <-ticker.C:
		}
	}
}

// ask sends a request and waits for the answer.
func (l *Lease) ask(ctx context.Context, r request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	// The keeper itself answers at the deadline; its answer says more than ours.
	l.conn.SetDeadline(deadline.Add(time.Second))
	stop := context.AfterFunc(ctx, func() { l.conn.SetDeadline(time.Now().Add(time.Second)) })
	defer stop()
	var answer response
	err := json.NewEncoder(l.conn).Encode(r)
	if err == nil {
		err = l.decoder.Decode(&answer)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("ask the keeper of the test clusters: %w", context.Cause(ctx))
	case err != nil && r.Op == opLease:
		return fmt.Errorf("%w: %w", errEnding, err)
	case err != nil:
		return fmt.Errorf("the keeper of the test clusters has ended, and the servers with it (was it killed?): run the test again: %w", err)
	case answer.Ending:
		return errEnding
	}
	if answer.Cluster != nil {
		l.cluster = *answer.Cluster
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// Cluster returns what was leased, with the roles that the last fault left.
func (l *Lease) Cluster() Cluster {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cluster
}

// Fault does one of the faults to a node, or ends it.
func (l *Lease) Fault(ctx context.Context, fault, node string) error {
	wait := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	return l.ask(ctx, request{Op: fault, Node: node, Wait: wait})
}

// End gives the cluster back, without waiting until the keeper has put it right.
// If keep is not zero, it stays for at least that long.
func (l *Lease) End(keep time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// The answer makes sure that whoever asks next is not given another cluster.
	return errors.Join(l.ask(ctx, request{Op: opEnd, Keep: keep}), l.conn.Close())
}
