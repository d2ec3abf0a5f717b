//go:build linux || darwin

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

func supported() error { return nil }

// serverAccount picks the user the servers of a new cluster run as: the
// caller, except that PostgreSQL refuses to run as root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return caller(), nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID != nil || errGID != nil || uid == 0 {
			continue
		}
		return account{UID: uint32(uid), GID: uint32(gid)}, nil
	}
	return account{}, errors.New("choose a user for the servers: PostgreSQL refuses to run as root and there is neither a user postgres nor nobody: make one, or run as another user")
}

// processAttr starts a process in a session of its own, out of reach of the
// terminal's signals, as the given user.
func processAttr(a account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.dropped() {
		attr.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID}
	}
	return attr
}

func signalProcess(pid int, sig syscall.Signal) error {
	// A pid below 2 would address a process group, or everyone.
	if pid < 2 {
		return fmt.Errorf("signal process %d: not a server", pid)
	}
	return syscall.Kill(pid, sig)
}

// tryLock takes an exclusive lock that ends with the returned file, at the
// latest with this process. It returns errLocked if another holder lives.
func tryLock(path string) (*os.File, error) {
	f, err := openLockFile(path)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// openLockFile first tries the file as it is: in a shared sticky folder Linux
// refuses O_CREATE on a file that another user made. It follows no link, as in
// such a folder anybody may have put one.
func openLockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrPermission) {
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	}
	return f, err
}

// cannotSwitch reports whether a process could not be started because we may
// not change the user, as opposed to the user not being let in.
func cannotSwitch(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL)
}

// fileAccount returns the owner of a file.
func fileAccount(info os.FileInfo) (account, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false
	}
	return account{UID: st.Uid, GID: st.Gid}, true
}

// onlyName reports whether a file has no hard links elsewhere.
func onlyName(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}
