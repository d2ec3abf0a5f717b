package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	tempPattern = "pgtide-lab-"
	// abandonedAfter is how long the temporary folder of a killed process is
	// left for somebody to look into.
	abandonedAfter = 10 * time.Minute
)

// folder tells what Start made and so may remove again.
type folder struct {
	temporary bool
	created   bool
}

// tempParent is where a temporary folder goes. TMPDIR is obeyed, and what is
// to outlive this process does not go into memory.
func tempParent(o Options) string {
	if os.Getenv("TMPDIR") == "" && !o.Durable && !o.Detach && !o.Keep {
		if dir := memoryDir(); dir != "" {
			return dir
		}
	}
	return os.TempDir()
}

// makeFolder provides the folder in o.Dir, which is empty but for our lock.
func makeFolder(o *Options) (made folder, err error) {
	if o.Dir == "" {
		sweepAbandoned(o.Logf)
		if o.Dir, err = os.MkdirTemp(tempParent(*o), tempPattern); err != nil {
			return made, nameDiskFull(err)
		}
		made = folder{temporary: true, created: true}
		if o.Dir, err = filepath.EvalSymlinks(o.Dir); err != nil {
			return made, err
		}
		return made, letServersIn(o.Dir, 0o711)
	}
	entries, err := os.ReadDir(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return made, fmt.Errorf("make the cluster folder: %w", nameDiskFull(err))
		}
		made.created = true
		if err := letServersIn(o.Dir, 0o755); err != nil {
			return made, err
		}
	case err != nil:
		return made, fmt.Errorf("read the cluster folder: %w", err)
	}
	for _, entry := range entries {
		// A lock alone is what a start that was cut short leaves behind.
		if entry.Name() != ownerLockFile {
			return made, fmt.Errorf("%w: %s holds %s and no %s: choose an empty or missing folder", ErrForeignFolder, o.Dir, entry.Name(), stateFile)
		}
	}
	o.Dir, err = filepath.EvalSymlinks(o.Dir)
	return made, err
}

// letServersIn opens a folder that we made just enough for servers that run as
// another user.
func letServersIn(dir string, mode fs.FileMode) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chmod(dir, mode)
}

func folderInUse(dir string, pid int, err error) error {
	if !errors.Is(err, errLocked) {
		return err
	}
	by := "another process"
	if pid != 0 {
		by = "process " + strconv.Itoa(pid)
	}
	return fmt.Errorf("%w: %s runs the cluster in %s: end it first, or choose another folder", ErrFolderInUse, by, dir)
}

// discard undoes a start: the servers, then exactly what was made.
func (c *Cluster) discard(o Options, made folder) error {
	var errs []error
	for _, n := range c.Nodes() {
		errs = append(errs, n.shutdown(false))
	}
	if !o.Keep {
		if c.ownerLock != nil {
			for _, n := range c.Nodes() {
				errs = append(errs, os.RemoveAll(n.dir))
			}
			for _, name := range []string{scratchDir, templateFile, stateFile, stateLockFile, ownerLockFile} {
				errs = append(errs, os.RemoveAll(filepath.Join(c.dir, name)))
			}
		}
		if made.created {
			errs = append(errs, os.Remove(c.dir))
		}
	}
	c.unlock()
	return errors.Join(errs...)
}

// sweepAbandoned removes temporary folders whose process was killed and so
// could not. It only touches what this user's labs made, that nobody owns and
// where nothing runs.
func sweepAbandoned(logf func(string, ...any)) {
	var dirs []string
	for _, parent := range []string{os.TempDir(), memoryDir()} {
		found, _ := filepath.Glob(filepath.Join(parent, tempPattern+"*")) // the pattern is well-formed
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if owner, ok := fileAccount(info); !ok || owner.dropped() {
			continue
		}
		if info, err = os.Stat(filepath.Join(dir, stateFile)); err != nil || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		s, err := loadState(dir)
		if err != nil || !s.Temporary || s.Detached {
			continue
		}
		lock, err := tryLock(filepath.Join(dir, ownerLockFile))
		if err != nil {
			continue
		}
		c := newCluster(dir, binaries{}, Options{})
		c.last = s
		running := false
		for _, n := range c.Nodes() {
			running = running || n.runState() != Stopped
		}
		if !running {
			logf("removing %s, left behind by process %d", dir, s.OwnerPID)
			os.RemoveAll(dir)
		}
		lock.Close()
	}
}
