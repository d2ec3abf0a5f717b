package lab

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// EnvCache names the environment variable with the lab's cache folder. By
// default that is pgtide in the user's cache folder, for root the system's. It
// can be deleted at any time.
const EnvCache = "PGTIDE_CACHE"

// errNoCache: nothing can be kept for the next cluster, which is no reason not
// to make this one.
var errNoCache = errors.New("the cache folder cannot be used")

// templateFormat changes whenever a template is made differently.
const templateFormat = 1

// What making a template leaves in the cluster folder until it is done.
const (
	scratchDir   = "initdb"
	templateFile = "template.tar"
)

func cacheDir() (string, error) {
	if dir := os.Getenv(EnvCache); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		if runtime.GOOS == "darwin" {
			return "/Library/Caches/pgtide", nil
		}
		return "/var/cache/pgtide", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set %s", err, EnvCache)
	}
	return filepath.Join(dir, "pgtide"), nil
}

// template is a data directory as initdb leaves it, with the roles and the
// application's database, cleanly shut down and without passwords.
type template struct {
	archive string
	private bool // made for one cluster, so its system identifier is its own
}

// templateKey tells templates apart: by the server program down to its build
// and by everything that is baked in.
func templateKey(bin binaries, s *state) (string, error) {
	info, err := os.Stat(bin.postgres())
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n%s\n%d %d\n%q %q", templateFormat, bin.banner, bin.postgres(),
		info.Size(), info.ModTime().UnixNano(), s.AppRole, s.Database)
	return fmt.Sprintf("%d-%s.tar", bin.major, hex.EncodeToString(h.Sum(nil)[:8])), nil
}

// cachedTemplate returns the template for a cluster, made now if this is the
// first of its kind. Processes that need the same one wait for the first.
func cachedTemplate(ctx context.Context, bin binaries, s *state, clusterDir string, logf func(string, ...any)) (template, error) {
	key, err := templateKey(bin, s)
	if err != nil {
		return template{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return template{}, fmt.Errorf("%w: %w", errNoCache, err)
	}
	parent := filepath.Join(cache, "templates")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return template{}, fmt.Errorf("%w: %w", errNoCache, err)
	}
	t := template{archive: filepath.Join(parent, key)}
	if _, err := os.Stat(t.archive); err == nil {
		return t, nil
	}
	lock, err := waitLock(ctx, t.archive+".lock")
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errNoCache, err)
		}
		return template{}, fmt.Errorf("lock the template: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(t.archive); err == nil {
		return t, nil
	}
	logf("running initdb of PostgreSQL %s; the next cluster uses the result", bin.version)
	return t, buildTemplate(ctx, bin, s, clusterDir, t.archive)
}

// privateTemplate makes a template for this cluster alone: where the cache
// cannot be written, or for a layout that setSystemID does not know.
func privateTemplate(ctx context.Context, bin binaries, s *state, clusterDir string) (template, error) {
	t := template{archive: filepath.Join(clusterDir, templateFile), private: true}
	return t, buildTemplate(ctx, bin, s, clusterDir, t.archive)
}

// buildTemplate works in the cluster folder, which the servers' user can
// reach and which a start that does not succeed cleans up.
func buildTemplate(ctx context.Context, bin binaries, s *state, clusterDir, archive string) error {
	scratch := filepath.Join(clusterDir, scratchDir)
	if err := makeNodeDir(scratch, s.Account); err != nil {
		return err
	}
	data := filepath.Join(scratch, "data")
	err := runCommand(ctx, s.Account, nil, bin.initdb(), "--pgdata="+data, "--username="+superuserRole,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if err != nil {
		return err
	}
	role, database := pgx.Identifier{s.AppRole}.Sanitize(), pgx.Identifier{s.Database}.Sanitize()
	err = runSingleUser(ctx, bin, s.Account, data,
		"create role "+role+" login",
		"grant pg_monitor to "+role,
		"create role "+replicationRole+" login replication",
		"create database "+database+" owner "+role)
	if err != nil {
		return err
	}
	if err := packTree(ctx, data, archive); err != nil {
		return err
	}
	return os.RemoveAll(scratch)
}

// runSingleUser runs one-line statements in a data directory that no server
// runs in. The low limits stay in pg_control: a replica refuses to start with
// lower ones than its primary had, and a user's settings may be low.
func runSingleUser(ctx context.Context, bin binaries, a account, dir string, statements ...string) error {
	return runCommand(ctx, a, []byte(strings.Join(statements, "\n")+"\n"),
		bin.postgres(), "--single", "-F", "-D", dir,
		"-c", "max_connections=4", "-c", "max_wal_senders=0", "-c", "max_worker_processes=0",
		"-c", "log_min_error_statement=panic", // statements may hold passwords
		"-c", "exit_on_error=on", "-c", "shared_buffers=16MB", "postgres")
}

// copyTemplate makes the data directories of a new cluster's nodes. The first
// one is set up completely, passwords too, before the others copy it, so that
// they are byte for byte at the same WAL position.
func copyTemplate(ctx context.Context, bin binaries, s *state, t template, dataDirs []string) error {
	first := dataDirs[0]
	id := newSystemID()
	prepare := func(dir string) error {
		if err := unpackTree(ctx, t.archive, dir, s.Account); err != nil {
			return err
		}
		if t.private {
			return nil
		}
		return setSystemID(dir, id)
	}
	if s.Auth != Password {
		return inParallel(dataDirs, prepare)
	}
	if err := prepare(first); err != nil {
		return err
	}
	var statements []string
	for _, role := range []string{superuserRole, replicationRole, s.AppRole} {
		statements = append(statements, fmt.Sprintf("alter role %s password '%s'",
			pgx.Identifier{role}.Sanitize(), s.Passwords[role]))
	}
	if err := runSingleUser(ctx, bin, s.Account, first, statements...); err != nil {
		return fmt.Errorf("set passwords: %w", err)
	}
	return inParallel(dataDirs[1:], func(dir string) error {
		return copyTree(ctx, first, dir, s.Account, nil)
	})
}

// newPasswords makes one random password per role, without any character that
// a URL or a connection string would need quoted.
func newPasswords(appRole string) map[string]string {
	return map[string]string{
		superuserRole:   rand.Text(),
		replicationRole: rand.Text(),
		appRole:         rand.Text(),
	}
}

// inParallel runs f for all items at once and joins the errors.
func inParallel[T any](items []T, f func(T) error) error {
	errs := make(chan error)
	for _, item := range items {
		go func() { errs <- f(item) }()
	}
	var all []error
	for range items {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
