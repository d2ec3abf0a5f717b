//go:build !linux

package pgbouncer

import (
	"errors"
	"os"
	"syscall"
)

func unprivileged() (attr *syscall.SysProcAttr, uid, gid int, err error) {
	if os.Geteuid() == 0 {
		return nil, 0, 0, errors.New("PgBouncer refuses to run as root: run the tests as another user")
	}
	return nil, os.Geteuid(), os.Getegid(), nil
}
