package pgtidetest

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
)

// versionPatterns are where the packages of Debian, RPM systems and macOS put a
// version of the server programs.
var versionPatterns = []string{
	"/usr/lib/postgresql/%s/bin",
	"/usr/pgsql-%s/bin",
	"/opt/homebrew/opt/postgresql@%s/bin",
	"/usr/local/opt/postgresql@%s/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@%s/bin",
	"/Applications/Postgres.app/Contents/Versions/%s/bin",
}

// binDir returns the folder of server programs that the environment asks for;
// empty leaves it to the lab.
func binDir() (string, error) {
	if dir := os.Getenv("PGTIDE_PGBIN"); dir != "" {
		return dir, nil
	}
	version := os.Getenv(EnvVersion)
	if version == "" {
		return "", nil
	}
	if _, err := strconv.Atoi(version); err != nil {
		return "", fmt.Errorf("%s=%q is not a major version such as 15", EnvVersion, version)
	}
	var looked []string
	for _, pattern := range slices.Concat(versionPatterns, cachePatterns()) {
		dir := fmt.Sprintf(pattern, version)
		looked = append(looked, dir)
		if _, err := os.Stat(path.Join(dir, "postgres")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%s=%s: PostgreSQL %s is in none of %v: install it, or set PGTIDE_PGBIN to the folder that holds initdb and postgres", EnvVersion, version, version, looked)
}

// cachePatterns are the lab's own places for server programs.
func cachePatterns() []string {
	dirs := []string{os.Getenv("PGTIDE_CACHE")}
	if dirs[0] == "" {
		dirs[0] = "/var/cache/pgtide"
		if user, err := os.UserCacheDir(); err == nil {
			dirs = append(dirs, path.Join(user, "pgtide"))
		}
	}
	for i := range dirs {
		dirs[i] = path.Join(dirs[i], "postgres", "%s", "bin")
	}
	return dirs
}
