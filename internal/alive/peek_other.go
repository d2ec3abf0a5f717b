//go:build !unix

package alive

import "syscall"

// peek says that there is nothing to read: this system is not asked.
func peek(uintptr) (first byte, n int, err error) { return 0, 0, syscall.EAGAIN }

func wouldBlock(error) bool { return true }
