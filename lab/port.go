package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Ports come from a range that the system does not hand out to outgoing
// connections. Between labs a locked file per port keeps two from choosing
// the same one; against other programs a trial bind does, and the servers'
// own answer in the moment between the trial and their start.

// portLockDir is shared by all users of the machine.
func portLockDir() (string, error) {
	dir := filepath.Join(os.TempDir(), "pgtide-ports")
	err := os.Mkdir(dir, 0o777)
	switch {
	case err == nil:
		// Mkdir's mode is cut by the umask.
		err = os.Chmod(dir, 0o777|os.ModeSticky)
	case errors.Is(err, os.ErrExist):
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("make the folder of port locks: %w", err)
	}
	return dir, nil
}

// claimPort finds a free port and keeps other labs off it until the returned
// file is closed. The cluster folder written into the file keeps the port for
// clusters that are stopped or detached.
func claimPort(clusterDir string) (int, *os.File, error) {
	locks, err := portLockDir()
	if err != nil {
		return 0, nil, err
	}
	low, high := portRange()
	first := rand.IntN(high - low)
	for i := range high - low {
		port := low + (first+i)%(high-low)
		lock, err := tryLock(portLockFile(locks, port))
		if err != nil {
			continue // locked by another lab, or a file we may not open
		}
		if reservedFor(lock, port, clusterDir) && portFree(port) == nil {
			noteReservation(lock, clusterDir)
			return port, lock, nil
		}
		lock.Close()
	}
	return 0, nil, fmt.Errorf("choose a port: %w: every port from %d to %d", ErrPortTaken, low, high-1)
}

// lockPort takes the lock of a port a node already has.
func lockPort(port int, clusterDir string) (*os.File, error) {
	locks, err := portLockDir()
	if err != nil {
		return nil, err
	}
	lock, err := tryLock(portLockFile(locks, port))
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("lock port %d: %w by another lab's cluster: close that one first", port, ErrPortTaken)
	}
	if err != nil {
		return nil, fmt.Errorf("lock port %d: %w", port, err)
	}
	noteReservation(lock, clusterDir)
	return lock, nil
}

func portLockFile(dir string, port int) string {
	return filepath.Join(dir, strconv.Itoa(port)+".lock")
}

// reservedFor reports whether the port is ours to take: nobody's, or kept for
// this very cluster.
func reservedFor(lock *os.File, port int, clusterDir string) bool {
	data, err := os.ReadFile(lock.Name())
	holder := strings.TrimSpace(string(data))
	if err != nil || holder == "" || holder == clusterDir {
		return err == nil
	}
	s, err := loadState(holder)
	if err != nil {
		// A folder we may not look into may well be somebody's cluster.
		return !errors.Is(err, os.ErrPermission)
	}
	return !slices.ContainsFunc(s.Nodes, func(n nodeState) bool { return n.Port == port })
}

// noteReservation writes to a file that is surely ours and nothing else's name.
// It is only a courtesy to later labs: there is still the trial bind.
func noteReservation(lock *os.File, clusterDir string) {
	info, err := lock.Stat()
	if err != nil || !info.Mode().IsRegular() || !onlyName(info) {
		return
	}
	if owner, ok := fileAccount(info); !ok || owner.UID != caller().UID {
		return
	}
	if err := lock.Truncate(0); err == nil {
		lock.WriteAt([]byte(clusterDir+"\n"), 0)
	}
}

// portFree tries to listen where the server will.
func portFree(port int) error {
	l, err := net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPortTaken, err)
	}
	return l.Close()
}

// portRange returns 10,000 ports beside the system's range of ephemeral ones.
func portRange() (low, high int) {
	const width = 10000
	ephemeralLow, ephemeralHigh := 49152, 65535
	if runtime.GOOS == "linux" {
		if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
			fmt.Sscan(string(data), &ephemeralLow, &ephemeralHigh)
		}
	}
	if low = 20000; low+width > ephemeralLow && ephemeralHigh+width < 65535 {
		low = ephemeralHigh + 1
	}
	return low, low + width
}
