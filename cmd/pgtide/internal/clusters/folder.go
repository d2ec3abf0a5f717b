// Package clusters is where the command keeps the clusters that have a name: one
// folder each, below one parent.
package clusters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// rootParent is root's place: its servers run as another user, who cannot enter
// root's home.
const rootParent = "/var/lib/pgtide/clusters"

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Parent returns the folder that holds the named clusters of the user:
// pgtide/clusters in XDG_STATE_HOME if that is an absolute path, otherwise in
// ~/.local/state, and for root in /var/lib.
func Parent() (string, error) {
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "pgtide", "clusters"), nil
	}
	if os.Geteuid() == 0 {
		return rootParent, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of the named clusters: %w: set XDG_STATE_HOME", err)
	}
	return filepath.Join(home, ".local", "state", "pgtide", "clusters"), nil
}

// Folder returns the folder of the cluster with that name, whether it exists or
// not. It refuses names that would lead elsewhere.
func Folder(name string) (string, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("%q cannot be the name of a cluster: use at most 63 letters, digits, dots, dashes and underscores", name)
	}
	parent, err := Parent()
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, name), nil
}

// Names returns the names of the user's clusters in order, none if there is no
// folder for them yet.
func Names() ([]string, error) {
	parent, err := Parent()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(parent)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if _, err := os.Stat(filepath.Join(parent, entry.Name(), stateFile)); err == nil {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}
