package pgtide_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The architecture of the repository as rules that can fail; arch_check_test.go
// holds the checks and arch_self_test.go proves that each of them bites.
//
// In a rule "." is the root package, "./x" the package in folder x and anything
// else an import path; "/..." at the end adds all packages below.

const (
	modulePath = "github.com/pgtide/pgtide"
	pgxPath    = "github.com/jackc/pgx/v5"
)

// archBan forbids a package one import, its own or that of anything it depends on:
// it counts what ends up in a user's binary.
type archBan struct{ in, banned, why string }

var archBans = []archBan{
	{".", "net/http", "who routes SQL does not link an HTTP stack; pgtidehttp is there for those who serve it"},
	{".", "os/exec", "a library never starts processes; that is the lab's work"},
	{".", "testing", "it registers flags and grows every user's binary"},
	{".", "./pgtidetest/...", "it imports testing and the lab"},
	{".", "./lab/...", "the lab tests the library: it is not part of it"},
	{"./lab/...", "testing", "commands drive the lab too; the glue for tests is a package of its own"},
	{"./lab/...", "./...", "a lab that knew the library would share its mistakes and hide them"},
	{"./internal/route/...", "context", "a decision is a value: it neither waits nor is cancelled"},
	{"./internal/route/...", pgxPath + "/...", "a decision is made from a View; only internal/watch asks servers"},
	{"./internal/topology/...", "context", "a View is a value: it neither waits nor is cancelled"},
	{"./internal/topology/...", pgxPath + "/...", "a View is what was observed; only internal/watch observes"},
}

// archAllowance lists everything a package itself may import beside the standard
// library and its own subpackages.
type archAllowance struct {
	in      string
	allowed []string
	why     string
}

var archAllowances = []archAllowance{
	{"./internal/sqlkind/...", nil, "reading a statement's text needs no server, driver or option"},
	{"./pgtidesql/...", []string{".", "./internal/front", pgxPath + "/..."}, "the driver reaches servers through pgx and the pool's own calls, nothing else"},
	{"./pgtidehttp/...", []string{".", pgxPath}, "the middleware fits any router and uses the library as everybody else does; a request's transaction is a pgx.Tx"},
	{"./discover/...", []string{".", pgxPath + "/..."}, "whoever finds nodes speaks HTTP, DNS and SQL by the standard library and pgx; the library itself does not know how"},
	{"./pgtidetest/...", []string{".", "./lab", "./pgtidesql", "./internal/sqlkind", pgxPath + "/..."}, "the kit joins the library to the lab, and uses both as everybody else does; what a statement is, it asks as the library does"},
	{"./pgtideredis/...", []string{".", "github.com/redis/go-redis/v9"}, "an adapter joins the library to one other, and uses both as everybody else does"},
	{"./pgtidegrpc/...", []string{".", "google.golang.org/grpc/..."}, "an adapter joins the library to one other, and uses both as everybody else does"},
	{"./pgtideconnect/...", []string{".", "connectrpc.com/connect"}, "an adapter joins the library to one other, and uses both as everybody else does"},
	{"./pgtideriver/...", []string{".", "github.com/riverqueue/river/..."}, "an adapter joins the library to one other, and uses both as everybody else does"},
}

// purePackages take the time as an argument and start nothing, so that each of
// their answers can be repeated from its inputs.
var purePackages = []string{"internal/route", "internal/topology"}

// unpublishedModules are never tagged: a published module that needed one could
// not be installed.
var unpublishedModules = []string{"bench", "e2e", "examples"}

// lintersModule is kept out of the workspace, whose versions it must not choose.
const lintersModule = "tools"

// vagueNames say where code was put, not what it is about.
var vagueNames = []string{"common", "helper", "helpers", "misc", "types", "util", "utils"}

const (
	maxFileLines   = 500
	maxReadmeLines = 200
)

// longFiles maps the files that may be longer than maxFileLines to the reason.
var longFiles = map[string]string{}

func TestArchImports(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Run(system, func(t *testing.T) {
			pkgs := archPackages(t, system)
			archReport(t, banProblems(pkgs, archBans))
			archReport(t, allowanceProblems(pkgs, archAllowances))
			archReport(t, unpublishedProblems(pkgs))
			archReport(t, nameProblems(pkgs))
		})
	}
}

func TestArchPurity(t *testing.T) {
	checked := map[string]bool{}
	for file, text := range archTree(t) {
		for _, folder := range purePackages {
			if path.Ext(file) == ".go" && strings.HasPrefix(file, folder+"/") && !strings.HasSuffix(file, "_test.go") {
				checked[folder] = true
				archReport(t, purityProblems(t, file, text))
			}
		}
	}
	for _, folder := range purePackages {
		if !checked[folder] {
			t.Errorf("%s holds no Go file: the rule about it checks nothing", folder)
		}
	}
}

func TestArchModules(t *testing.T) {
	files := archTree(t)
	mods := map[string]modFile{}
	for file := range files {
		if path.Base(file) == "go.mod" {
			mods[path.Dir(file)] = goJSON[modFile](t, nil, "mod", "edit", "-json", file)[0]
		}
	}
	work := goJSON[workFile](t, nil, "work", "edit", "-json", "go.work")[0]
	archReport(t, moduleProblems(mods, work, commandModules(files, mods)))
}

func TestArchFileSizes(t *testing.T) {
	archReport(t, sizeProblems(archTree(t), longFiles))
}

func TestArchPages(t *testing.T) {
	for _, name := range []string{"README.md", "docs/TESTING.md"} {
		archReport(t, pageProblems(name, archTree(t)))
	}
}

func archReport(t *testing.T, problems []string) {
	t.Helper()
	slices.Sort(problems)
	for _, problem := range problems {
		t.Error(problem)
	}
}

// archPackage is what go list says of a package.
type archPackage struct {
	ImportPath, Name                   string
	Standard                           bool
	Imports, TestImports, XTestImports []string
}

// modFile and workFile are what the rules need of go.mod and go.work.
type modFile struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Replace []struct{ Old struct{ Path string } }
}

type workFile struct{ Use []struct{ DiskPath string } }

// archPackages returns the workspace's packages as built for system, and all that
// they depend on, by import path.
func archPackages(t *testing.T, system string) map[string]archPackage {
	t.Helper()
	pkgs := map[string]archPackage{}
	for _, pkg := range goJSON[archPackage](t, []string{"GOOS=" + system}, "list", "-deps",
		"-json=ImportPath,Name,Standard,Imports,TestImports,XTestImports", "work") {
		pkgs[pkg.ImportPath] = pkg
	}
	return pkgs
}

// goJSON runs the go command and decodes the values it prints, at least one.
func goJSON[T any](t *testing.T, env []string, args ...string) []T {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return decodeJSON[T](t, out)
}

func decodeJSON[T any](t *testing.T, text []byte) []T {
	t.Helper()
	var values []T
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var value T
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) && len(values) > 0 {
			return values
		}
		if err != nil {
			t.Fatalf("decode JSON of %d bytes: %v", len(text), err)
		}
		values = append(values, value)
	}
}

// archTree returns the text of every source, module and page file by its
// slash-separated path. Reading them here also tells the test cache what the
// answers depend on: it cannot see what the go commands above read.
func archTree(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); base == "testdata" || len(base) > 1 && base[0] == '.' {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(name) {
		case ".go", ".mod", ".work", ".md":
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			files[filepath.ToSlash(name)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the tree: %v", err)
	}
	return files
}
