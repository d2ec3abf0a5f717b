package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// errLocked is tryLock's answer when somebody else holds the lock.
var errLocked = errors.New("locked by another process")

// account is the user the servers run as.
type account struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// caller is the user of this process.
func caller() account {
	return account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

// dropped reports whether the servers run as somebody else than the caller,
// which takes a caller who is root.
func (a account) dropped() bool { return a.UID != uint32(os.Geteuid()) }

// give hands a file to the account.
func (a account) give(path string) error {
	if !a.dropped() {
		return nil
	}
	return os.Lchown(path, int(a.UID), int(a.GID))
}

// explain names what is wrong when a program could not be started.
func (a account) explain(program string, err error) error {
	switch {
	case a.dropped() && cannotSwitch(err):
		return fmt.Errorf("run %s as user %d: %w: this root may not change user, and PostgreSQL refuses to run as root: run as another user", program, a.UID, err)
	case a.dropped() && errors.Is(err, os.ErrPermission):
		return fmt.Errorf("run %s as user %d: %w: choose an installation that everybody may run", program, a.UID, err)
	}
	return fmt.Errorf("run %s: %w", program, err)
}

// reach proves that the account can enter dir, and otherwise names the folder
// that stops it.
func (a account) reach(ctx context.Context, dir string) error {
	if !a.dropped() {
		return nil
	}
	enter := func(dir string) error {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cd "$1"`, "sh", dir)
		cmd.SysProcAttr = processAttr(a)
		cmd.Dir = "/"
		return cmd.Run()
	}
	err := enter(dir)
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return a.explain("/bin/sh", err)
	}
	culprit := dir
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		if enter(parent) == nil || parent == filepath.Dir(parent) {
			break
		}
		culprit = parent
	}
	return fmt.Errorf("reach %s: the servers run as user %d, who may not enter %s: choose a folder below one that everybody may enter, or run chmod o+x on it", dir, a.UID, culprit)
}
