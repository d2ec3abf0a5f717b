package clusters

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// stateFile is what makes a folder a cluster's.
const stateFile = "lab.json"

// Remove deletes what the lab has made in a cluster folder, the given nodes
// among it, and then the folder, which must hold no running server. What else
// lies in the folder is left, together with the folder, and returned.
//
// A Remove that does not get through can be repeated: the file that makes the
// folder a cluster's goes last.
func Remove(dir string, nodes []string) (left []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err != nil {
		return nil, fmt.Errorf("remove %s: it is not a cluster folder: %w", dir, err)
	}
	// A Root cannot be led out of the folder, whatever links lie in it.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("remove the cluster: %w", err)
	}
	defer root.Close()
	for _, name := range nodes {
		if err := root.RemoveAll(name); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("remove the cluster: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == stateFile:
		case ownFile(name) && entry.Type().IsRegular():
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("remove the cluster: %w", err)
			}
		default:
			left = append(left, name)
		}
	}
	if err := root.Remove(stateFile); err != nil {
		return left, fmt.Errorf("remove the cluster: %w", err)
	}
	if len(left) > 0 {
		return left, nil
	}
	if err := os.Remove(dir); err != nil {
		return nil, fmt.Errorf("remove the cluster folder: %w", err)
	}
	return nil, nil
}

// ownFile reports whether the lab writes files of that name beside the nodes.
func ownFile(name string) bool {
	return name == "owner.lock" || name == "state.lock" ||
		strings.HasPrefix(name, stateFile+".") && strings.HasSuffix(name, ".tmp")
}
