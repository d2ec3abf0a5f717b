package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MinVersion is the oldest major version of PostgreSQL the lab runs.
const MinVersion = 14

// EnvBinDir names the environment variable with the folder of the server
// programs. It wins over every place the lab would look by itself.
const EnvBinDir = "PGTIDE_PGBIN"

// binaries are one installation's server programs.
type binaries struct {
	dir     string
	version string // as the server names it, such as 15.18
	major   int
	banner  string // the whole answer to postgres -V
}

func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }
func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }

// findBinaries returns the first usable installation: the given folder, else
// the environment's, else the first one found. A folder that was named but
// does not serve is an error, never a reason to look further.
func findBinaries(ctx context.Context, dir string, a account) (binaries, error) {
	if dir != "" {
		return openBinaries(ctx, dir, a)
	}
	if dir = os.Getenv(EnvBinDir); dir != "" {
		b, err := openBinaries(ctx, dir, a)
		if err != nil {
			return b, fmt.Errorf("%s: %w", EnvBinDir, err)
		}
		return b, nil
	}
	var refused []string
	for _, dir := range searchDirs() {
		if !hasPrograms(dir) {
			continue
		}
		b, err := openBinaries(ctx, dir, a)
		if err == nil {
			return b, nil
		}
		refused = append(refused, err.Error())
	}
	why := ""
	if len(refused) > 0 {
		why = " (" + strings.Join(refused, "; ") + ")"
	}
	return binaries{}, fmt.Errorf("%w%s: %s, or set %s to the folder that holds initdb and postgres", ErrNoPostgres, why, installHint(), EnvBinDir)
}

func installHint() string {
	if runtime.GOOS == "darwin" {
		return "install PostgreSQL 14 or newer, for example: brew install postgresql@17"
	}
	return "install PostgreSQL 14 or newer, for example: apt-get install postgresql, or dnf install postgresql-server"
}

func hasPrograms(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[^ \n]*)`)

// openBinaries checks one folder by running its postgres the way the cluster
// will, as the servers' user.
func openBinaries(ctx context.Context, dir string, a account) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	if !hasPrograms(dir) {
		return binaries{}, fmt.Errorf("%w: %s does not hold the programs initdb and postgres", ErrNoPostgres, dir)
	}
	// Following the link once keeps a cluster on the installation it began
	// with when a package manager moves the link to the next version.
	if real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && hasPrograms(filepath.Dir(real)) {
		dir = filepath.Dir(real)
	}
	b := binaries{dir: dir}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.postgres(), "-V")
	cmd.SysProcAttr = processAttr(a)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = a.explain(b.postgres(), err)
		if text := strings.TrimSpace(string(out)); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return b, err
	}
	b.banner = strings.TrimSpace(string(out))
	found := versionPattern.FindStringSubmatch(b.banner)
	if found == nil {
		return b, fmt.Errorf("run %s -V: unknown answer %q", b.postgres(), b.banner)
	}
	b.version = found[1]
	b.major, _ = strconv.Atoi(found[2])
	if b.major < MinVersion {
		return b, fmt.Errorf("%w: %s is PostgreSQL %s, the lab needs %d or newer", ErrWrongVersion, dir, b.version, MinVersion)
	}
	return b, nil
}

// binaries returns the programs the node runs with: the cluster's, except that
// a subscriber keeps its own.
func (n *Node) binaries(ctx context.Context, s *state) (binaries, error) {
	entry, err := s.node(n.name)
	if err != nil || entry.Subscriber == nil {
		return n.c.bin, err
	}
	sub := entry.Subscriber
	if sub.Major == n.c.bin.major && (sub.BinDir == n.c.bin.dir || !hasPrograms(sub.BinDir)) {
		return n.c.bin, nil
	}
	bin, err := openBinaries(ctx, sub.BinDir, s.Account)
	if err == nil && bin.major != sub.Major {
		err = fmt.Errorf("%w: it is PostgreSQL %d and %s is %d: put the programs of version %d there", ErrWrongVersion, sub.Major, bin.dir, bin.major, sub.Major)
	}
	return bin, err
}

// installPatterns are the packages' places on Debian, RPM systems and macOS.
var installPatterns = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// searchDirs lists where servers are usually installed, best first: PATH, the
// packages of Debian, RPM, Homebrew and Postgres.app with the newest version
// first, then the lab's own cache folder.
func searchDirs() []string {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	patterns := slices.Clone(installPatterns)
	if cache, err := cacheDir(); err == nil {
		patterns = append(patterns, filepath.Join(cache, "postgres", "*", "bin"))
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // only a malformed pattern is an error
		slices.SortFunc(found, newestFirst)
		dirs = append(dirs, found...)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return !filepath.IsAbs(dir) })
}

var numberPattern = regexp.MustCompile(`\d+`)

// newestFirst compares folders by the last number in their path.
func newestFirst(a, b string) int {
	number := func(s string) int {
		all := numberPattern.FindAllString(s, -1)
		if len(all) == 0 {
			return 0
		}
		n, _ := strconv.Atoi(all[len(all)-1])
		return n
	}
	return cmp.Compare(number(b), number(a))
}
