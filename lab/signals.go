package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// shutdownGrace is how long Close waits before it uses a harder way.
const shutdownGrace = 3 * time.Second

// Stop shuts the server down cleanly: clients are disconnected, everything is
// written and a primary has sent its replicas all WAL. A frozen replica holds
// that back; then the error at the deadline says so, and Kill helps. On a
// stopped node it does nothing.
func (n *Node) Stop(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.c.open(); err != nil {
		return err
	}
	p, ok := n.postmaster()
	if !ok {
		return nil
	}
	if p.frozen() {
		return fmt.Errorf("stop %s: it is frozen: thaw it, or kill it", n.name)
	}
	if err := n.signalAndWait(ctx, p.pid, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop %s: %w", n.name, withLog(fmt.Errorf("still shutting down (a primary waits for frozen replicas; Kill does not): %w", err), n.logTail()))
	}
	n.c.logf("stopped %s", n.name)
	return nil
}

// Kill ends the server and all its processes at once with SIGKILL, as a power
// cut would. On a stopped node it does nothing.
func (n *Node) Kill(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.c.open(); err != nil {
		return err
	}
	if err := n.kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w", n.name, err)
	}
	n.c.logf("killed %s", n.name)
	return nil
}

func (n *Node) kill(ctx context.Context) error {
	p, ok := n.postmaster()
	if !ok {
		return nil
	}
	memory := n.sharedMemoryID()
	children, err := n.signalAll(p.pid, sigStop)
	if err != nil {
		return err
	}
	for _, pid := range append(children, p.pid) {
		if err := signalProcess(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	err = poll(ctx, pollInterval, func() (bool, error) {
		for _, pid := range append(children, p.pid) {
			if _, alive := lookProcess(pid); alive {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	// A power cut takes shared memory with it; after SIGKILL the segment that
	// guards the data directory would stay until the next start, if any.
	if memory != "" {
		exec.CommandContext(ctx, "ipcrm", "-m", memory).Run() // harmless if it stays
	}
	return n.awaitSupervisor(ctx)
}

// sharedMemoryID returns the System V id of the running server's segment.
func (n *Node) sharedMemoryID() string {
	if fields := n.pidFile(); len(fields) > 6 {
		if _, id, ok := strings.Cut(fields[6], " "); ok {
			return strings.TrimSpace(id)
		}
	}
	return ""
}

// signalAll signals the postmaster first, so that a stopped one makes no more
// children, then everything below it, which it returns.
func (n *Node) signalAll(pid int, sig syscall.Signal) ([]int, error) {
	if err := signalProcess(pid, sig); err != nil {
		return nil, err
	}
	children, err := descendants(pid)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		if err := signalProcess(child, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return nil, err
		}
	}
	return children, nil
}

// Freeze stops all processes of the server with SIGSTOP: connections stay open
// and new ones are accepted by the kernel, but nothing answers. On a frozen
// node it does nothing; a stopped one is an error.
func (n *Node) Freeze(ctx context.Context) error { return n.setFrozen(ctx, true) }

// Thaw lets a frozen server go on. On a running node it does nothing. A replica
// that commits are to wait for, but that a promotion found frozen, is waited
// for again when it returns.
func (n *Node) Thaw(ctx context.Context) error { return n.setFrozen(ctx, false) }

func (n *Node) setFrozen(ctx context.Context, frozen bool) error {
	verb, sig := "thaw", sigCont
	if frozen {
		verb, sig = "freeze", sigStop
	}
	if err := n.c.open(); err != nil {
		return err
	}
	p, ok := n.postmaster()
	if !ok {
		return fmt.Errorf("%s %s: it is stopped", verb, n.name)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	children, err := n.signalAll(p.pid, sig)
	if err == nil {
		// The signal is on its way; the fault is there once all obeyed.
		err = poll(ctx, pollInterval, func() (bool, error) {
			for _, pid := range append(children, p.pid) {
				if p, ok := lookProcess(pid); ok && p.frozen() != frozen {
					return false, nil
				}
			}
			return true, nil
		})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, n.name, err)
	}
	n.c.logf("%s: %s done", n.name, verb)
	if frozen {
		return nil
	}
	if err := n.comeBack(ctx); err != nil {
		return fmt.Errorf("thaw %s: %w", n.name, err)
	}
	return nil
}

// shutdown ends the server in any case: cleanly if asked to and possible, else
// at once. It is what Close does, so it asks for no open handle.
func (n *Node) shutdown(clean bool) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	p, ok := n.postmaster()
	if !ok {
		return n.awaitSupervisor(context.Background())
	}
	if p.frozen() {
		if _, err := n.signalAll(p.pid, sigCont); err != nil {
			return fmt.Errorf("thaw %s: %w", n.name, err)
		}
	}
	ways := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}
	if !clean {
		ways = ways[1:]
	}
	for _, sig := range ways {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		err := n.signalAndWait(ctx, p.pid, sig)
		cancel()
		if err == nil {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if err := n.kill(ctx); err != nil {
		return fmt.Errorf("kill %s: %w", n.name, err)
	}
	return nil
}

func (n *Node) signalAndWait(ctx context.Context, pid int, sig syscall.Signal) error {
	if err := signalProcess(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	err := poll(ctx, pollInterval, func() (bool, error) {
		_, alive := lookProcess(pid)
		return !alive, nil
	})
	if err != nil {
		return err
	}
	return n.awaitSupervisor(ctx)
}

// awaitSupervisor returns once the ended server's supervisor is gone too.
func (n *Node) awaitSupervisor(ctx context.Context) error {
	srv := n.takeServer()
	if srv == nil {
		return nil
	}
	select {
	case <-srv.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	srv.life.Close() // closed already after a start that did not succeed
	return nil
}
