package clusters

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func makeCluster(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cluster")
	for _, name := range []string{stateFile, "lab.json.123.tmp", "owner.lock", "state.lock", "node1/data/base/1", "node2/server.log"} {
		write(t, filepath.Join(dir, name))
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestRemove(t *testing.T) {
	dir := makeCluster(t)
	left, err := Remove(dir, []string{"node1", "node2"})
	if err != nil || len(left) > 0 || exists(dir) {
		t.Errorf("got %q left, %v, folder there: %t, want all gone", left, err, exists(dir))
	}
}

func TestRemoveLeavesWhatIsNotOurs(t *testing.T) {
	dir := makeCluster(t)
	write(t, filepath.Join(dir, "notes.txt"))
	write(t, filepath.Join(dir, "node9", "file"))
	write(t, filepath.Join(dir, "lab.json.d.tmp", "file"))
	left, err := Remove(dir, []string{"node1", "node2"})
	if err != nil || !slices.Equal(left, []string{"lab.json.d.tmp", "node9", "notes.txt"}) {
		t.Errorf("got %q left, %v, want what the lab did not make", left, err)
	}
	for _, name := range left {
		if !exists(filepath.Join(dir, name)) {
			t.Errorf("%s is gone, want it left", name)
		}
	}
	if exists(filepath.Join(dir, "node1")) || exists(filepath.Join(dir, stateFile)) {
		t.Error("the cluster is still there, want it gone")
	}
}

func TestRemoveFollowsNoLink(t *testing.T) {
	dir := makeCluster(t)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Join(outside, "file"))
	if err := os.RemoveAll(filepath.Join(dir, "node2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "node2")); err != nil {
		t.Fatal(err)
	}
	if _, err := Remove(dir, []string{"node1", "node2"}); err != nil {
		t.Error(err)
	}
	if !exists(filepath.Join(outside, "file")) {
		t.Error("a file outside the cluster's folder is gone")
	}
	for _, name := range []string{"../outside", "/nonexistent/file"} {
		dir := makeCluster(t)
		if _, err := Remove(dir, []string{name}); err == nil {
			t.Errorf("node %q: got no error, want it refused", name)
		}
		if !exists(filepath.Join(dir, stateFile)) {
			t.Errorf("node %q: the state is gone, so that the rest cannot be removed", name)
		}
	}
}

func TestRemoveRefusesForeignFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "node1", "file"))
	if _, err := Remove(dir, []string{"node1"}); err == nil || !exists(filepath.Join(dir, "node1", "file")) {
		t.Errorf("got %v, file there: %t, want an error and nothing removed", err, exists(filepath.Join(dir, "node1", "file")))
	}
}
