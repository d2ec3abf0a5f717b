package pgtide_test

import (
	"slices"
	"strings"
	"testing"
)

// Each rule of the architecture is broken here on purpose, on made-up input: a
// rule that finds nothing in a broken tree would find nothing in ours.

func TestArchRulesBite(t *testing.T) {
	for _, rule := range archBans {
		t.Run("ban/"+rule.in+"/"+rule.banned, func(t *testing.T) {
			in, banned := sample(rule.in), sample(rule.banned)
			if archMatches(rule.in, banned) {
				banned = modulePath + "/other"
			}
			pkgs := map[string]archPackage{
				in:                    {Imports: []string{"fmt", "example.org/between"}},
				"fmt":                 {Standard: true},
				"example.org/between": {Imports: []string{banned}},
				banned:                {},
			}
			wantProblem(t, banProblems(pkgs, []archBan{rule}),
				in+" imports example.org/between imports "+banned+": "+rule.why)
			pkgs["example.org/between"] = archPackage{}
			wantNone(t, banProblems(pkgs, []archBan{rule}))
			delete(pkgs, in)
			wantProblem(t, banProblems(pkgs, []archBan{rule}), "checks nothing")
		})
	}
	for _, rule := range archAllowances {
		t.Run("allowance/"+rule.in, func(t *testing.T) {
			in := sample(rule.in)
			imports := []string{"fmt", in + "/part"}
			for _, allowed := range rule.allowed {
				imports = append(imports, sample(allowed))
			}
			pkgs := map[string]archPackage{"fmt": {Standard: true}, in: {Imports: imports}}
			wantNone(t, allowanceProblems(pkgs, []archAllowance{rule}))
			const other = "example.org/other"
			pkgs[in] = archPackage{Imports: append(imports, other)}
			wantProblem(t, allowanceProblems(pkgs, []archAllowance{rule}), in+" imports "+other+": "+rule.why)
		})
	}
	for _, folder := range unpublishedModules {
		t.Run("unpublished/"+folder, func(t *testing.T) {
			path := modulePath + "/" + folder
			pkgs := map[string]archPackage{
				modulePath + "/lab": {XTestImports: []string{path + "/x"}},
				path:                {Imports: []string{path + "/x"}},
			}
			wantProblem(t, unpublishedProblems(pkgs), modulePath+"/lab imports "+path+"/x")
		})
	}
	for _, name := range vagueNames {
		t.Run("name/"+name, func(t *testing.T) {
			wantProblem(t, nameProblems(map[string]archPackage{modulePath + "/" + name: {Name: "fine"}}), name)
			wantProblem(t, nameProblems(map[string]archPackage{modulePath + "/fine": {Name: name}}), "/fine")
		})
	}
}

func TestArchPurityBites(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"Clock", `import "time"; var x = time.Now()`, "time.Now"},
		{"ClockAsValue", `import "time"; var now = time.Now`, "time.Now"},
		{"Renamed", `import clock "time"; var x = clock.Since(y)`, "time.Since"},
		{"Unnamed", `import . "time"; var x = Now()`, "time imported without its name"},
		{"Timer", `import "time"; var x = time.NewTimer(time.Second)`, "time.NewTimer"},
		{"Goroutine", `func f() { go f() }`, "a goroutine"},
		{"OK", `import "time"; func f(now time.Time) time.Duration { return now.Sub(time.Time{}) }`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			problems := purityProblems(t, "made/up.go", "package up; "+test.text)
			if test.want == "" {
				wantNone(t, problems)
				return
			}
			wantProblem(t, problems, test.want)
		})
	}
}

func TestArchModulesBite(t *testing.T) {
	const (
		requirePgx  = `{"Require": [{"Path": "` + pgxPath + `"}, {"Path": "golang.org/x/text", "Indirect": true}]}`
		requireMore = `{"Require": [{"Path": "` + pgxPath + `"}, {"Path": "example.org/more"}]}`
		requireE2E  = `{"Require": [{"Path": "` + modulePath + `/e2e"}]}`
		replaced    = `{"Replace": [{"Old": {"Path": "` + modulePath + `"}}]}`
	)
	for _, test := range []struct{ name, folder, text, want string }{
		{"OK", ".", requirePgx, ""},
		{"OKUnpublishedCommand", "bench", replaced, ""},
		{"ThirdParty", ".", requireMore, "go.mod requires example.org/more"},
		{"Unpublished", "cmd/pgtide", requireE2E, "cmd/pgtide/go.mod requires " + modulePath + "/e2e"},
		{"ReplacedCommand", "cmd/pgtide", replaced, "cmd/pgtide/go.mod replaces " + modulePath},
		{"OutsideWorkspace", "forgotten", `{}`, "forgotten/go.mod: go.work uses every module"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mods := map[string]modFile{test.folder: decodeJSON[modFile](t, []byte(test.text))[0]}
			work := decodeJSON[workFile](t, []byte(`{"Use": [{"DiskPath": "."}, {"DiskPath": "./cmd/pgtide"}, {"DiskPath": "./bench"}]}`))[0]
			files := map[string]string{test.folder + "/internal/x/main.go": "// Command x.\npackage main\n"}
			problems := moduleProblems(mods, work, commandModules(files, mods))
			if test.want == "" {
				wantNone(t, problems)
				return
			}
			wantProblem(t, problems, test.want)
		})
	}
	linters := map[string]modFile{lintersModule: {}}
	work := decodeJSON[workFile](t, []byte(`{"Use": [{"DiskPath": "./`+lintersModule+`"}]}`))[0]
	wantProblem(t, moduleProblems(linters, work, nil), "go.work uses every module but "+lintersModule)
	wantNone(t, moduleProblems(linters, workFile{}, nil))
}

func TestArchFileSizesBite(t *testing.T) {
	long := map[string]string{"a.go": strings.Repeat("\n", maxFileLines+1)}
	short := map[string]string{"a.go": strings.Repeat("\n", maxFileLines)}
	reason := map[string]string{"a.go": "a table that is read as one"}

	wantProblem(t, sizeProblems(long, nil), "a.go has 501 lines")
	wantNone(t, sizeProblems(long, reason))
	wantNone(t, sizeProblems(map[string]string{"a.go": "// Code generated by ent, DO NOT EDIT.\n" + long["a.go"]}, nil))
	wantNone(t, sizeProblems(short, nil))
	wantProblem(t, sizeProblems(short, reason), "take it off the list")
	wantProblem(t, sizeProblems(nil, reason), "is missing or has no reason")
	wantProblem(t, sizeProblems(long, map[string]string{"a.go": ""}), "is missing or has no reason")
}

func TestArchReadmeBites(t *testing.T) {
	const mark = "<!-- from examples/hello/main.go -->\n\n"
	example := "package main\n\nfunc main() {\n\tone()\n\ttwo()\n}\n"
	for _, test := range []struct{ name, readme, want string }{
		{"OK", mark + "```go\none()\ntwo()\n```\n", ""},
		{"OKOtherLanguage", "```sh\nmake test\n```\n", ""},
		{"Unmarked", "```go\none()\n```\n", "README.md:1: no line like"},
		{"OneMarkTwoBlocks", mark + "```go\none()\n```\n```go\ntwo()\n```\n", "README.md:6: no line like"},
		{"Different", mark + "```go\none()\nthree()\n```\n", "README.md:3: the block does not stand in examples/hello/main.go"},
		{"PartOfALine", mark + "```go\none(\n```\n", "does not stand in"},
		{"NoSuchFile", strings.ReplaceAll(mark, "hello", "bye") + "```go\none()\n```\n", "does not stand in examples/bye/main.go"},
		{"TooLong", strings.Repeat("line\n", maxReadmeLines+1), "README.md has 201 lines"},
	} {
		t.Run(test.name, func(t *testing.T) {
			problems := pageProblems("README.md", map[string]string{"README.md": test.readme, "examples/hello/main.go": example})
			if test.want == "" {
				wantNone(t, problems)
				return
			}
			wantProblem(t, problems, test.want)
		})
	}
	wantProblem(t, pageProblems("README.md", nil), "README.md is missing")
}

// sample returns an import path that a rule's pattern covers.
func sample(pattern string) string {
	pattern = strings.TrimSuffix(pattern, "/...")
	if pattern == "." || strings.HasPrefix(pattern, "./") {
		return modulePath + pattern[1:]
	}
	return pattern
}

func wantProblem(t *testing.T, problems []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(problems, func(problem string) bool { return strings.Contains(problem, want) }) {
		t.Errorf("got problems %q, want one with %q", problems, want)
	}
}

func wantNone(t *testing.T, problems []string) {
	t.Helper()
	if len(problems) > 0 {
		t.Errorf("got problems %q, want none", problems)
	}
}
