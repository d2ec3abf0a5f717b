//go:build linux || darwin

package keeper

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

func ownedByCaller(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}

// tryLock takes a lock that ends with the file or the process; nil means that
// somebody else has it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, err
}

// launch starts the keeper with no tie to this process: the shell ends at once,
// so that nobody has to wait for the keeper, and it holds none of our pipes,
// for whose end go test would wait.
func launch(ctx context.Context, dir string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `"$0" pgtidetest-keeper </dev/null >"$1" 2>&1 &`, program, filepath.Join(dir, logFile))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), EnvKeep+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of the terminal's Ctrl-C
	return cmd.Run()
}
