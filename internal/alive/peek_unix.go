//go:build unix

package alive

import "syscall"

// peek looks at the next byte to be read without taking it or waiting for it.
func peek(fd uintptr) (first byte, n int, err error) {
	var b [1]byte
	n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return b[0], n, err
}

func wouldBlock(err error) bool {
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
}
