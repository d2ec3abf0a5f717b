package pgbouncer

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// unprivileged makes a process end with this one, whatever ends it, and run as
// somebody else than root: PgBouncer refuses to be that.
func unprivileged() (attr *syscall.SysProcAttr, uid, gid int, err error) {
	attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	uid, gid = os.Geteuid(), os.Getegid()
	if uid != 0 {
		return attr, uid, gid, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		id, _ := strconv.Atoi(u.Uid)
		group, _ := strconv.Atoi(u.Gid)
		if id > 0 {
			attr.Credential = &syscall.Credential{Uid: uint32(id), Gid: uint32(group)}
			return attr, id, group, nil
		}
	}
	return nil, 0, 0, errors.New("PgBouncer refuses to run as root, and there is neither a user postgres nor nobody")
}
