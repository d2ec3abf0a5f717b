package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pgtide/pgtide/lab"
)

// Serve is the keeper's whole life. It returns once the clusters are closed, or
// at once if another keeper serves the folder.
func Serve(dir string) error {
	signals, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	linger, err := durationFrom(EnvLinger, DefaultLinger)
	if err != nil {
		return err
	}
	lock, err := awaitLock(signals, filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := errors.Join(lock.Truncate(0), writePID(lock)); err != nil {
		return err
	}
	removeLeftovers(signals, dir)
	socket := filepath.Join(dir, socketFile)
	os.Remove(socket) // of a killed keeper
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	p := newPool(dir)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(p, conn)
		}
	}()
	p.awaitIdle(signals, linger)
	listener.Close()
	<-accepted
	return p.close()
}

// writePID tells people whom to ask, or to kill.
func writePID(f *os.File) error {
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}

// awaitLock waits for the keeper before us, which may be closing its clusters.
func awaitLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		lock, err := tryLock(path)
		if lock != nil || err != nil {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("another keeper is at work")
		case <-time.After(5 * time.Millisecond): // a lock sends no signal
		}
	}
}

func durationFrom(env string, def time.Duration) (time.Duration, error) {
	text := os.Getenv(env)
	if text == "" {
		return def, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s=%q is not a time such as 10s", env, text)
	}
	return d, nil
}

// removeLeftovers closes what a killed keeper could not. Its servers have ended
// with it.
func removeLeftovers(ctx context.Context, dir string) {
	records, _ := filepath.Glob(filepath.Join(dir, recordDir, "*")) // the pattern is well-formed
	for _, record := range records {
		text, err := os.ReadFile(record)
		if err != nil {
			continue
		}
		c, err := lab.Open(ctx, string(text))
		if err == nil {
			err = c.Close()
			log.Printf("removed %s, left behind by a killed keeper: %v", text, err)
		} else if !errors.Is(err, lab.ErrForeignFolder) {
			log.Printf("leftover: %v", err)
			continue
		}
		os.Remove(record)
	}
}

// serve talks to one client. The end of the connection is the end of its lease.
func serve(p *pool, conn net.Conn) {
	defer conn.Close()
	decoder, encoder := json.NewDecoder(conn), json.NewEncoder(conn)
	var c *cluster
	defer func() {
		if c != nil {
			p.takeBack(c, 0)
			p.tend(c)
		}
	}()
	for {
		var r request
		if err := decoder.Decode(&r); err != nil {
			return
		}
		var answer response
		ctx, cancel := context.WithTimeout(context.Background(), r.Wait)
		var err error
		switch {
		case r.Op == opEnd && c != nil:
			cancel()
			p.takeBack(c, r.Keep)
			encoder.Encode(answer) // a client that is gone needs none
			p.tend(c)
			c = nil
			return
		case r.Op == opLease && c == nil:
			c, err = p.lease(ctx, r)
			answer.Ending = errors.Is(err, errEnding)
		case c != nil:
			err = c.fault(ctx, r.Op, r.Node)
		default:
			err = errors.New("there is no lease")
		}
		cancel()
		if err != nil {
			answer.Error = err.Error()
		}
		if c != nil {
			answer.Cluster = c.describe()
		}
		if err := encoder.Encode(answer); err != nil {
			return
		}
	}
}
