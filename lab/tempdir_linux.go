package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	sharedMemoryDir = "/dev/shm"
	tmpfsMagic      = 0x01021994
	// A cluster under load holds a few gigabytes, mostly kept WAL.
	memoryNeeded = 8 << 30
)

// memoryDir is a folder in memory for clusters that are not to last, if there
// is plenty of room: most of the time a start takes is copying thousands of
// small files, which some disks are slow at. Empty means no.
func memoryDir() string {
	if !roomInMemory() {
		return ""
	}
	return sharedMemoryDir
}

func roomInMemory() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(sharedMemoryDir, &fs); err != nil || fs.Type != tmpfsMagic {
		return false
	}
	// The file system's size promises nothing: containers and other programs
	// may leave less.
	return fs.Bavail*uint64(fs.Bsize) >= memoryNeeded && memoryAvailable() >= memoryNeeded && memoryLimit() >= memoryNeeded
}

func memoryAvailable() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

// memoryLimit is the control group's; no number means no limit.
func memoryLimit() uint64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64); err == nil {
			return limit
		}
	}
	return ^uint64(0)
}
