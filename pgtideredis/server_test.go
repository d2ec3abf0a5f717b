package pgtideredis

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
)

const home, abroad = 7, 8 // system identifiers of two clusters

// newToken makes the token of a position on timeline 1, in the text form of
// pgtide.Token.
func newToken(t testing.TB, cluster, lsn uint64) pgtide.Token {
	t.Helper()
	b := []byte{1, 0}
	b = binary.BigEndian.AppendUint64(b, cluster)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint64(b, lsn)
	b = binary.BigEndian.AppendUint32(b, 0)
	var token pgtide.Token
	if err := token.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(b))); err != nil {
		t.Fatalf("make a token: %v", err)
	}
	return token
}

func newKeys(t testing.TB, secrets ...string) *pgtide.Keys {
	t.Helper()
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, []byte(s))
	}
	k, err := pgtide.NewKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const secret, newSecret = "a secret for the tests of today", "a secret for the tests of tomorrow"

// server is a Redis of the test's own that keeps nothing on disk and is reached
// by a socket in a folder of its own.
type server struct {
	folder, socket string
	stop           func()
}

func startServer(t *testing.T) *server {
	t.Helper()
	folder, err := os.MkdirTemp("", "pgtide-redis") // t.TempDir is too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	s := &server{folder: folder, socket: filepath.Join(folder, "socket")}
	t.Cleanup(func() { s.stop() })
	s.start(t)
	return s
}

// start starts the server's process and waits until it answers. The process ends
// with this one, whatever ends it: the shell in between then reads an end of file.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.stop = func() {}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if program, err = exec.LookPath("valkey-server"); err != nil {
			t.Fatal("there is neither redis-server nor valkey-server: run scripts/redis.sh")
		}
	}
	cmd := exec.Command("sh", "-c", `"$@" & read _; kill -9 $!; wait $! 2>/dev/null`, "sh", program,
		"--port", "0", "--unixsocket", s.socket, "--dir", s.folder, "--save", "", "--appendonly", "no", "--daemonize", "no")
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	s.stop = func() {
		s.stop = func() {}
		stdin.Close()
		if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) && !errors.Is(err, io.EOF) {
			t.Errorf("stop %s: %v", program, err)
		}
		os.Remove(s.socket)
	}
	client := s.client(t)
	defer client.Close()
	// It tells nobody when it is ready.
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
		err := client.Ping(t.Context()).Err()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer within 10 s: %v", program, err)
		}
	}
}

// client returns a client of the server as an application would configure it.
func (s *server) client(t testing.TB) *redis.Client {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// store returns a store of the home cluster, in a process of its own so to say.
// Its timeout allows for a busy machine.
func (s *server) store(t testing.TB, o Options) *Store {
	if o.Client == nil {
		o.Client = s.client(t)
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return newStore(func() uint64 { return home }, o)
}

func load(t testing.TB, s *Store, key string) pgtide.Token {
	t.Helper()
	token, err := s.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func raise(t testing.TB, s *Store, key string, token pgtide.Token, ttl time.Duration) {
	t.Helper()
	if err := s.Raise(t.Context(), key, token, ttl); err != nil {
		t.Fatal(err)
	}
}

// counter counts round trips.
type counter struct {
	redis.Hook
	trips int
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.trips++
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
