//go:build !linux && !darwin

package lab

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// Placeholders: nothing reaches them, because every way to a cluster asks
// supported first.
const (
	sigStop = syscall.Signal(19)
	sigCont = syscall.Signal(18)
)

func supported() error {
	return fmt.Errorf("%w: it cannot run on %s; use a Linux machine, WSL or a container", ErrUnsupported, runtime.GOOS)
}

func serverAccount() (account, error) { return account{}, supported() }

func processAttr(account) *syscall.SysProcAttr { return nil }

func signalProcess(int, syscall.Signal) error { return supported() }

func tryLock(string) (*os.File, error) { return nil, supported() }

func fileAccount(os.FileInfo) (account, bool) { return account{}, false }

func onlyName(os.FileInfo) bool { return false }

func cannotSwitch(error) bool { return false }
