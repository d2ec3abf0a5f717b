package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	pollInterval = 3 * time.Millisecond
	closeTimeout = 200 * time.Millisecond
)

// RunState is what the operating system says of a server.
type RunState string

const (
	Running RunState = "running"
	Frozen  RunState = "frozen" // stopped by a signal, see [Node.Freeze]
	Stopped RunState = "stopped"
)

// postmaster returns the server's process, if there is one. The pid in the
// data directory may be an old one that something else has now, so the
// process must have been called with this very directory.
func (n *Node) postmaster() (process, bool) { return n.postmasterOf(n.pidFile()) }

func (n *Node) postmasterOf(fields []string) (process, bool) {
	if len(fields) == 0 {
		return process{}, false
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid < 2 {
		return process{}, false
	}
	p, ok := lookProcess(pid)
	if !ok || !strings.Contains(commandLine(pid), n.dataDir()) {
		return process{}, false
	}
	return p, true
}

// pidFile returns the lines of postmaster.pid: pid, directory, start time,
// port, socket folder, address, shared memory key and id, state.
func (n *Node) pidFile() []string {
	data, err := os.ReadFile(filepath.Join(n.dataDir(), "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(data), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

func (n *Node) runState() RunState {
	p, ok := n.postmaster()
	switch {
	case !ok:
		return Stopped
	case p.frozen():
		return Frozen
	}
	return Running
}

// Start starts the server and returns once it takes connections and, for a
// replica or subscriber whose primary runs and whose link is not cut, once it
// streams, and commits wait for it if they are to. On a
// running node it does nothing. A port that something else has taken meanwhile
// is ErrPortTaken. Without a deadline in ctx it gives up after a minute.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	n.turn.Lock()
	defer n.turn.Unlock()
	if err := n.c.mayStart(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.connected(ctx)
}

// mayStart refuses to start servers that would die with the wrong process.
func (c *Cluster) mayStart() error {
	if err := c.open(); err != nil {
		return err
	}
	if c.guest {
		return fmt.Errorf("%w: process %d owns %s: only it can start servers", ErrFolderInUse, c.state().OwnerPID, c.dir)
	}
	return nil
}

// start launches the server and waits until it takes connections. The caller
// has the node's turn.
func (n *Node) start(ctx context.Context) error {
	switch n.runState() {
	case Running:
		return nil
	case Frozen:
		return fmt.Errorf("start %s: it is frozen: thaw it", n.name)
	}
	began := time.Now()
	s := n.c.state()
	bin, err := n.binaries(ctx, s)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	if err := n.writeConf(s, true); err != nil {
		return err
	}
	if err := portFree(n.port); err != nil {
		return fmt.Errorf("start %s on port %d: %w: stop the other program", n.name, n.port, err)
	}
	n.dropStalePID()
	log, err := os.OpenFile(n.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, nameDiskFull(err))
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	if old := n.takeServer(); old != nil {
		old.life.Close() // that server ended by itself
	}
	srv, err := supervise(s.Account, log, nil, bin.postgres(), "-D", n.dataDir())
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.mu.Lock()
	n.srv, n.logStart = srv, info.Size()
	n.mu.Unlock()
	if err := n.awaitReady(ctx, srv); err != nil {
		srv.kill()
		return fmt.Errorf("start %s: %w", n.name, withLog(err, n.logTail()))
	}
	// The state is read again: the cluster may have been detached meanwhile.
	if n.c.state().Detached {
		n.takeServer()
		if err := srv.detach(); err != nil {
			return fmt.Errorf("detach %s: %w", n.name, err)
		}
	}
	n.c.logf("started %s on port %d in %d ms", n.name, n.port, time.Since(began).Milliseconds())
	return nil
}

// dropStalePID removes the pid file of a killed server if something else has
// its pid now: PostgreSQL would take that for a living postmaster.
func (n *Node) dropStalePID() {
	fields := n.pidFile()
	if len(fields) == 0 {
		return
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return
	}
	if err := signalProcess(pid, 0); err == nil || errors.Is(err, os.ErrPermission) {
		os.Remove(filepath.Join(n.dataDir(), "postmaster.pid"))
	}
}

// awaitReady returns once the server says it is ready, and what answers on the
// port is that server and no other.
func (n *Node) awaitReady(ctx context.Context, srv *supervised) error {
	err := poll(ctx, pollInterval, func() (bool, error) {
		if srv.ended() {
			return false, fmt.Errorf("the server ended: %w", srv.endError())
		}
		// A killed server has left a file that says ready too, until the new
		// one writes its own, so pid and state must be of one reading.
		fields := n.pidFile()
		if len(fields) < 8 || fields[7] != "ready" {
			return false, nil
		}
		_, ours := n.postmasterOf(fields)
		return ours, nil
	})
	if err != nil {
		return err
	}
	return n.withConn(ctx, func(conn *pgx.Conn) error {
		var dir string
		if err := conn.QueryRow(ctx, "show data_directory").Scan(&dir); err != nil {
			return err
		}
		if dir != n.dataDir() {
			return fmt.Errorf("%w: the server on port %d serves %s", ErrPortTaken, n.port, dir)
		}
		return nil
	})
}

// endError says how the command ended.
func (s *supervised) endError() error {
	if s.err == nil {
		return errors.New("exit status 0")
	}
	return s.err
}

// takeServer hands over the supervisor, which then is the caller's to end.
func (n *Node) takeServer() *supervised {
	n.mu.Lock()
	defer n.mu.Unlock()
	srv := n.srv
	n.srv = nil
	return srv
}
