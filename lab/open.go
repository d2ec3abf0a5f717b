package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

func newCluster(dir string, bin binaries, o Options) *Cluster {
	return &Cluster{
		dir: dir, bin: bin, logf: o.Logf, keep: o.Keep, last: new(state),
		nodes: make(map[string]*Node), portLocks: make(map[string]*os.File),
	}
}

// Open attaches to the cluster in a folder without starting anything.
//
// A detached cluster can be opened by any number of processes at once, and
// Close on any of the handles stops it; use Detach to let go of it. A cluster
// that a living process owns can be opened too, to look at it and to cause
// faults, but only the owner starts servers and Close leaves it alone. A
// stopped cluster that nobody owns becomes this process's own.
func Open(ctx context.Context, dir string) (*Cluster, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	c, err := open(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("open the cluster in %s: %w", dir, err)
	}
	return c, nil
}

func open(ctx context.Context, dir string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	o, err := Options{Dir: dir}.normalize()
	if err != nil {
		return nil, err
	}
	s, err := loadOwnState(dir)
	if err != nil {
		return nil, err
	}
	bin, err := matchingBinaries(ctx, o, s)
	if err != nil {
		return nil, err
	}
	c := newCluster(dir, bin, o)
	c.last = s
	if s.Detached {
		return c, nil
	}
	err = c.own(ctx)
	if errors.Is(err, ErrFolderInUse) {
		c.guest = true
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// loadOwnState reads the state of a cluster that the caller may work on.
func loadOwnState(dir string) (*state, error) {
	s, err := loadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrForeignFolder, stateFile)
	}
	if err != nil {
		return nil, err
	}
	if s.Account.dropped() && os.Geteuid() != 0 {
		return nil, fmt.Errorf("its servers run as user %d: only that user and root may use it", s.Account.UID)
	}
	return s, nil
}

// matchingBinaries returns the installation the caller names, else the one the
// cluster was last run with, else any; but only of the cluster's major version.
func matchingBinaries(ctx context.Context, o Options, s *state) (binaries, error) {
	dir := o.BinDir
	if dir == "" && os.Getenv(EnvBinDir) == "" && hasPrograms(s.BinDir) {
		dir = s.BinDir
	}
	bin, err := findBinaries(ctx, dir, s.Account)
	if err != nil {
		return bin, err
	}
	if bin.major != s.Major {
		return bin, fmt.Errorf("%w: the cluster is PostgreSQL %d and %s is %d: set %s to the programs of version %d, or choose another folder",
			ErrWrongVersion, s.Major, bin.dir, bin.major, EnvBinDir, s.Major)
	}
	return bin, nil
}

// own makes this process the one that the servers live and die with.
func (c *Cluster) own(ctx context.Context) error {
	lock, err := tryLock(filepath.Join(c.dir, ownerLockFile))
	if err != nil {
		return folderInUse(c.dir, c.state().OwnerPID, err)
	}
	c.mu.Lock()
	c.ownerLock = lock
	c.mu.Unlock()
	// Servers of an owner that has just died are still being ended.
	err = poll(ctx, pollInterval, func() (bool, error) {
		for _, n := range c.Nodes() {
			if n.runState() != Stopped {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		err = fmt.Errorf("wait for the servers of the former owner to end: %w", err)
	}
	for _, n := range c.Nodes() {
		if err != nil {
			break
		}
		var lock *os.File
		if lock, err = lockPort(n.port, c.dir); err == nil {
			c.keepPort(n.name, lock)
		}
	}
	if err == nil {
		_, err = c.update(ctx, func(s *state) error {
			s.Detached, s.OwnerPID = false, os.Getpid()
			s.BinDir, s.Version = c.bin.dir, c.bin.version
			return nil
		})
	}
	if err != nil {
		c.unlock()
	}
	return err
}

// resume starts the cluster that a named folder holds.
func resume(ctx context.Context, o, asked Options) (_ *Cluster, err error) {
	s, err := loadOwnState(o.Dir)
	if err != nil {
		return nil, err
	}
	if asked.Auth != "" && asked.Auth != s.Auth || asked.AppRole != "" && asked.AppRole != s.AppRole || asked.Database != "" && asked.Database != s.Database {
		return nil, fmt.Errorf("it was made with auth %s, role %s and database %s: ask for the same, or choose another folder", s.Auth, s.AppRole, s.Database)
	}
	bin, err := matchingBinaries(ctx, o, s)
	if err != nil {
		return nil, err
	}
	if err := s.Account.reach(ctx, o.Dir); err != nil {
		return nil, err
	}
	c := newCluster(o.Dir, bin, o)
	c.last = s
	if s.Detached {
		for _, n := range c.Nodes() {
			if n.runState() != Stopped && !o.Detach {
				return nil, fmt.Errorf("%w: its servers run detached: open it, or close it first", ErrFolderInUse)
			}
		}
	}
	if !s.Detached || !o.Detach {
		if err := c.own(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		// Servers that ran detached before are left as they are.
		if err != nil && c.ownerLock != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if _, err := c.update(ctx, func(s *state) error {
		if o.Settings != nil {
			s.Settings = o.Settings
		}
		s.Durable = o.Durable
		return nil
	}); err != nil {
		return nil, err
	}
	if _, err := c.startAll(ctx); err != nil {
		return nil, err
	}
	for len(c.Replicas()) < o.Replicas {
		if _, err := c.AddReplica(ctx); err != nil {
			return nil, err
		}
	}
	if o.Synchronous != SyncOff {
		if err := c.setSynchronous(ctx, o.Synchronous, o.SyncReplicas); err != nil {
			return nil, err
		}
	}
	if o.Detach && !c.state().Detached {
		return c, c.release(ctx)
	}
	return c, nil
}
