// Package keeper runs the clusters that tests lease, in a process of its own
// that all test binaries of a user share: the first of them starts it, and it
// ends when nobody has leased anything for a while.
//
// A lease is a connection to the keeper's socket. When it ends, because the
// test is over or its process was killed, the keeper undoes what the test did
// to the cluster, checks it and hands it on, or throws it away. The servers
// live and die with the keeper; what a killed one left in folders is removed by
// the next.
package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Environment variables of the keeper and its clients.
const (
	// EnvKeep makes a test binary a keeper: its value is the folder to work in.
	EnvKeep = "PGTIDE_TEST_KEEPER"
	// EnvDir names the folder in which keeper and clients meet.
	EnvDir = "PGTIDE_TEST_DIR"
	// EnvLinger is how long the keeper outlives the last lease.
	EnvLinger = "PGTIDE_TEST_LINGER"
	// EnvClusters is how many clusters run at once.
	EnvClusters = "PGTIDE_TEST_CLUSTERS"
)

// DefaultLinger covers the time that go test takes to build the next package.
const DefaultLinger = 10 * time.Second

const (
	// Keepers of another protocol use other files in the same folder.
	lockFile   = "keeper-1.lock" // held for life by the keeper
	spawnFile  = "spawn-1.lock"  // held by who starts one
	socketFile = "keeper-1.sock"
	logFile    = "keeper-1.log"
	recordDir  = "clusters-1" // a file for each cluster, with its folder in it
)

// Spec says what a cluster must be like to be shared.
type Spec struct {
	Replicas int
	BinDir   string // empty means that the lab looks
	Settings map[string]string
}

func (s Spec) key() string {
	text, _ := json.Marshal(s) // maps are sorted; strings always encode
	return string(text)
}

// Node is a server of a leased cluster.
type Node struct{ Name, DSN, SuperDSN string }

// Cluster is what a client must know of the one it leased.
type Cluster struct {
	Dir, Version, AppRole string
	Nodes                 []Node
	Primary               string
	Replicas              []string
}

// Faults and their ends, by which a client asks for them.
const (
	Kill    = "kill"
	Freeze  = "freeze"
	Cut     = "cut"
	Promote = "promote"
	Start   = "start"
	Thaw    = "thaw"
	Heal    = "heal"
	Rejoin  = "rejoin"
)

const (
	opLease = "lease"
	opEnd   = "end"
)

type request struct {
	Op       string
	Spec     Spec          `json:",omitzero"`
	Holder   Holder        `json:",omitzero"`
	Template string        `json:",omitempty"` // the one that will be used, so as to get a cluster that has it
	Wait     time.Duration `json:",omitempty"` // how long the client waits for the answer
	Node     string        `json:",omitempty"`
	Keep     time.Duration `json:",omitempty"` // for how long the cluster is to be there yet
}

// Holder is who leases a cluster, in words for those who have to wait.
type Holder struct {
	PID  int
	Test string
}

func (h Holder) String() string { return fmt.Sprintf("%s (process %d)", h.Test, h.PID) }

type response struct {
	Error   string   `json:",omitempty"`
	Ending  bool     `json:",omitempty"` // ask the next keeper
	Cluster *Cluster `json:",omitempty"`
}

// Folder returns the folder in which the keeper and its clients meet, made if
// missing. Only its owner may use it: who can write there gets a superuser's
// database connection.
func Folder() (string, error) {
	dir := os.Getenv(EnvDir)
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "pgtide-test-"+strconv.Itoa(os.Getuid()))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for shared test clusters (choose another with %s): %w", EnvDir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || !ownedByCaller(info) || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("the folder for shared test clusters, %s, is not this user's alone: remove it, or choose another with %s", dir, EnvDir)
	}
	// The operating system cuts longer names off.
	if path := filepath.Join(dir, socketFile); len(path) > 100 {
		return "", fmt.Errorf("the path %s is too long for a socket: choose a shorter folder with %s", path, EnvDir)
	}
	return dir, nil
}

// checkEnv looks at what the keeper will read: it could only log a complaint.
func checkEnv() error {
	if _, err := durationFrom(EnvLinger, DefaultLinger); err != nil {
		return err
	}
	if text := os.Getenv(EnvClusters); text != "" {
		if n, err := strconv.Atoi(text); err != nil || n < 1 {
			return fmt.Errorf("%s=%q is not a number of clusters, such as 4", EnvClusters, text)
		}
	}
	return nil
}

// logTail returns what the keeper logged last, for an error.
func logTail(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, logFile))
	if errors.Is(err, fs.ErrNotExist) || len(text) == 0 {
		return "nothing"
	}
	return string(text[max(0, len(text)-2000):])
}
