package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	stateFile     = "lab.json"
	ownerLockFile = "owner.lock" // held for life by the process that supervises the servers
	stateLockFile = "state.lock" // held while lab.json is changed
	stateFormat   = 1
)

// state is the cluster as its folder remembers it. It holds what the servers
// cannot be asked for; which node is the primary is not in it.
type state struct {
	Format    int               `json:"format"`
	Version   string            `json:"version"`
	Major     int               `json:"major"`
	BinDir    string            `json:"bin_dir"`
	Account   account           `json:"account"`
	Auth      Auth              `json:"auth"`
	AppRole   string            `json:"app_role"`
	Database  string            `json:"database"`
	Passwords map[string]string `json:"passwords,omitempty"` // by role
	Durable   bool              `json:"durable"`
	Settings  map[string]string `json:"settings,omitempty"`
	Temporary bool              `json:"temporary"` // Close removes the folder
	Detached  bool              `json:"detached"`  // the servers need no living owner
	OwnerPID  int               `json:"owner_pid,omitempty"`
	Upstream  string            `json:"upstream"` // the node that replicas stream from
	Made      int               `json:"made"`     // nodes made so far, so that no name is used twice
	Sync      Sync              `json:"sync,omitempty"`
	SyncNodes []string          `json:"sync_nodes,omitempty"` // whom commits wait for while they are replicas; none means all
	Nodes     []nodeState       `json:"nodes"`
}

type nodeState struct {
	Name       string        `json:"name"`
	Port       int           `json:"port"`
	Cut        bool          `json:"cut,omitempty"`
	ApplyDelay time.Duration `json:"apply_delay_ns,omitempty"`
	// SyncStandbys are whom commits on this node, as the primary, wait for.
	SyncStandbys []string         `json:"sync_standbys,omitempty"`
	Subscriber   *subscriberState `json:"subscriber,omitempty"` // nil for a physical node
}

// subscriberState is what makes a node a subscriber.
type subscriberState struct {
	BinDir       string `json:"bin_dir"`
	Version      string `json:"version"`
	Major        int    `json:"major"`
	Source       string `json:"source"` // the node whose slot it reads
	Publication  string `json:"publication"`
	Subscription string `json:"subscription"`  // and its slot's name
	Own          bool   `json:"own,omitempty"` // the lab made the publication
	All          bool   `json:"all,omitempty"` // of all tables there were
	Paused       bool   `json:"paused,omitempty"`
}

// node returns the entry to read or change.
func (s *state) node(name string) (*nodeState, error) {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return &s.Nodes[i], nil
		}
	}
	return nil, fmt.Errorf("no node %q in the cluster", name)
}

func loadState(dir string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read cluster state: %w", err)
	}
	s := new(state)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read cluster state %s: %w", path, err)
	}
	if s.Format != stateFormat {
		return nil, fmt.Errorf("read cluster state %s: format %d was written by another version of the lab, this one reads format %d: choose another folder", path, s.Format, stateFormat)
	}
	return s, nil
}

// save replaces the file in one step, so that a reader needs no lock.
func (s *state) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("save cluster state: %w", err)
	}
	// Root may work on the cluster of a user, who wants to read it again.
	owner := caller()
	if info, err := os.Stat(dir); err == nil {
		if found, ok := fileAccount(info); ok && os.Geteuid() == 0 {
			owner = found
		}
	}
	if err := replaceFile(filepath.Join(dir, stateFile), append(data, '\n'), owner); err != nil {
		return fmt.Errorf("save cluster state: %w", err)
	}
	return nil
}

// updateState changes lab.json under the lock that all processes honour. It
// must not wait for a server: others are held up.
func updateState(ctx context.Context, dir string, change func(*state) error) (*state, error) {
	lock, err := waitLock(ctx, filepath.Join(dir, stateLockFile))
	if err != nil {
		return nil, fmt.Errorf("lock cluster state: %w", err)
	}
	defer lock.Close()
	s, err := loadState(dir)
	if err != nil {
		return nil, err
	}
	if err := change(s); err != nil {
		return nil, err
	}
	return s, s.save(dir)
}

// waitLock takes a file lock as soon as it is free.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	var lock *os.File
	err := poll(ctx, 5*time.Millisecond, func() (bool, error) {
		var err error
		lock, err = tryLock(path)
		if errors.Is(err, errLocked) {
			return false, nil
		}
		return true, err
	})
	return lock, err
}

// poll asks done until it says yes, fails, or the context ends.
func poll(ctx context.Context, interval time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// bounded gives a context without a deadline the default one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTimeout)
}

// replaceFile writes a private file beside path and renames it over path.
func replaceFile(path string, data []byte, owner account) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = owner.give(tmp.Name())
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return nameDiskFull(err)
}
