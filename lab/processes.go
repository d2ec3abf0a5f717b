package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// process is one row of the system's process table.
type process struct {
	pid, parent int
	state       byte // as ps shows it: T stopped, Z ended but not yet reaped
}

func (p process) ended() bool  { return p.state == 'Z' || p.state == 'X' }
func (p process) frozen() bool { return p.state == 'T' || p.state == 't' }

// processes reads the whole table.
func processes() ([]process, error) {
	if runtime.GOOS != "linux" {
		return processesFromPS("-axo", "pid=,ppid=,state=")
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var table []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := processFromProc(pid); ok {
			table = append(table, p)
		}
	}
	return table, nil
}

// lookProcess returns one row; false if there is no such process any more.
func lookProcess(pid int) (process, bool) {
	if runtime.GOOS == "linux" {
		p, ok := processFromProc(pid)
		return p, ok && !p.ended()
	}
	table, err := processesFromPS("-o", "pid=,ppid=,state=", "-p", strconv.Itoa(pid))
	if err != nil || len(table) != 1 || table[0].ended() {
		return process{}, false
	}
	return table[0], true
}

func processFromProc(pid int) (process, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The command in parentheses may hold spaces and parentheses itself.
	_, rest, ok := cutLast(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, state: fields[0][0]}, err == nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func processesFromPS(args ...string) ([]process, error) {
	out, err := exec.Command("ps", args...).Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && len(out) == 0) {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var table []process
	for line := range bytes.Lines(out) {
		fields := strings.Fields(string(line))
		if len(fields) != 3 {
			continue
		}
		pid, errPID := strconv.Atoi(fields[0])
		parent, errParent := strconv.Atoi(fields[1])
		if errPID == nil && errParent == nil {
			table = append(table, process{pid: pid, parent: parent, state: fields[2][0]})
		}
	}
	return table, nil
}

// descendants lists the living processes below pid, nearest first. Backends
// leave the postmaster's process group, so only parentage finds them.
func descendants(pid int) ([]int, error) {
	table, err := processes()
	if err != nil {
		return nil, err
	}
	var found []int
	for level := []int{pid}; len(level) > 0; {
		var next []int
		for _, parent := range level {
			for _, p := range table {
				if p.parent == parent && !p.ended() {
					next = append(next, p.pid)
				}
			}
		}
		found = append(found, next...)
		level = next
	}
	return found, nil
}

// commandLine returns how a process was called, arguments split by spaces.
func commandLine(pid int) string {
	if runtime.GOOS == "linux" {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(string(data), "\x00", " ")
	}
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(out)
}
