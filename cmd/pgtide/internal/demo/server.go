package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// stopTime is how long requests may take to end once the server is to stop.
const stopTime = 5 * time.Second

// morePorts is how many ports behind a taken one are tried.
const morePorts = 50

// listen listens on addr, or on the next port that is free.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%w: listen on %q, want host:port as in %s", ErrOptions, addr, DefaultListen)
	}
	first, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%w: listen on %q, want a port from 0 to 65535", ErrOptions, addr)
	}
	var config net.ListenConfig
	for port := first; ; port++ {
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.FormatUint(port, 10)))
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, syscall.EADDRINUSE) || first == 0 || port == 65535:
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		case port == first+morePorts:
			return nil, fmt.Errorf("listen on %s: this port and the next %d are taken: name another one", addr, morePorts)
		}
	}
}

// server is a running HTTP server.
type server struct {
	http   *http.Server
	addr   string
	url    string
	failed chan error // gets the error if it stops by itself
}

func serve(l net.Listener, h http.Handler) *server {
	s := &server{
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second, // a write may wait for a failover
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          log.New(io.Discard, "", 0), // clients that hang up
		},
		addr:   l.Addr().String(),
		url:    "http://" + l.Addr().String(),
		failed: make(chan error, 1),
	}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return s
}

// stop lets requests end, for as long as stopTime.
func (s *server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}
