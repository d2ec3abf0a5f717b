//go:build !linux && !darwin

package lab_test

import (
	"syscall"
	"testing"
)

func asNobody(*testing.T) *syscall.SysProcAttr { return nil }
