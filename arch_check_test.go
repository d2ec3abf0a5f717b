package pgtide_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// archMatches reports whether pattern, written as in the rules, covers importPath.
func archMatches(pattern, importPath string) bool {
	if pattern == "." || strings.HasPrefix(pattern, "./") {
		pattern = modulePath + pattern[1:]
	}
	if folder, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == folder || strings.HasPrefix(importPath, folder+"/")
	}
	return importPath == pattern
}

// archCovered returns the import paths a rule is about, in order, or the problem
// that there are none: a rule that checks nothing is out of date.
func archCovered(pkgs map[string]archPackage, in string) (paths, problems []string) {
	for _, importPath := range slices.Sorted(maps.Keys(pkgs)) {
		if archMatches(in, importPath) {
			paths = append(paths, importPath)
		}
	}
	if len(paths) == 0 {
		problems = []string{fmt.Sprintf("no package matches %s: the rule about it checks nothing", in)}
	}
	return paths, problems
}

func banProblems(pkgs map[string]archPackage, bans []archBan) []string {
	var problems []string
	for _, rule := range bans {
		paths, none := archCovered(pkgs, rule.in)
		problems = append(problems, none...)
		for _, from := range paths {
			chain := importChain(pkgs, from, func(to string) bool {
				return archMatches(rule.banned, to) && !archMatches(rule.in, to)
			})
			if chain != nil {
				problems = append(problems, fmt.Sprintf("%s: %s", strings.Join(chain, " imports "), rule.why))
			}
		}
	}
	return problems
}

// importChain returns the shortest chain of imports from a package to one that
// is banned, nil if there is none.
func importChain(pkgs map[string]archPackage, from string, banned func(string) bool) []string {
	chains := [][]string{{from}}
	seen := map[string]bool{from: true}
	for len(chains) > 0 {
		chain := chains[0]
		chains = chains[1:]
		for _, next := range pkgs[chain[len(chain)-1]].Imports {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(chain), next)
			if banned(next) {
				return longer
			}
			chains = append(chains, longer)
		}
	}
	return nil
}

func allowanceProblems(pkgs map[string]archPackage, allowances []archAllowance) []string {
	var problems []string
	for _, rule := range allowances {
		paths, none := archCovered(pkgs, rule.in)
		problems = append(problems, none...)
		for _, from := range paths {
			for _, to := range pkgs[from].Imports {
				fits := func(pattern string) bool { return archMatches(pattern, to) }
				if !pkgs[to].Standard && !fits(rule.in) && !slices.ContainsFunc(rule.allowed, fits) {
					problems = append(problems, fmt.Sprintf("%s imports %s: %s", from, to, rule.why))
				}
			}
		}
	}
	return problems
}

// isUnpublished reports whether a package belongs to a module without releases.
func isUnpublished(importPath string) bool {
	return slices.ContainsFunc(unpublishedModules, func(folder string) bool {
		return archMatches("./"+folder+"/...", importPath)
	})
}

func unpublishedProblems(pkgs map[string]archPackage) []string {
	var problems []string
	for from, pkg := range pkgs {
		if !archMatches("./...", from) || isUnpublished(from) {
			continue
		}
		for _, to := range slices.Concat(pkg.Imports, pkg.TestImports, pkg.XTestImports) {
			if isUnpublished(to) {
				problems = append(problems, fmt.Sprintf("%s imports %s, whose module has no releases", from, to))
			}
		}
	}
	return problems
}

func nameProblems(pkgs map[string]archPackage) []string {
	var problems []string
	for importPath, pkg := range pkgs {
		if archMatches("./...", importPath) &&
			(slices.Contains(vagueNames, pkg.Name) || slices.Contains(vagueNames, path.Base(importPath))) {
			problems = append(problems, fmt.Sprintf("%s: name the package for what it is about", importPath))
		}
	}
	return problems
}

// purityProblems finds clocks and goroutines in one file.
func purityProblems(t *testing.T, name, text string) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, 0)
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	var problems []string
	problem := func(at token.Pos, what string) {
		problems = append(problems, fmt.Sprintf("%s: %s in a package whose answers depend on its inputs alone", fset.Position(at), what))
	}
	clock := ""
	for _, spec := range file.Imports {
		if importPath, _ := strconv.Unquote(spec.Path.Value); importPath != "time" {
			continue
		}
		clock = "time"
		if spec.Name != nil {
			clock = spec.Name.Name
		}
		if clock == "." {
			problem(spec.Pos(), "time imported without its name")
		}
	}
	clocks := []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			problem(node.Pos(), "a goroutine")
		case *ast.SelectorExpr:
			if pkg, ok := node.X.(*ast.Ident); ok && pkg.Name == clock && slices.Contains(clocks, node.Sel.Name) {
				problem(node.Pos(), "time."+node.Sel.Name)
			}
		}
		return true
	})
	return problems
}

var mainClause = regexp.MustCompile(`(?m)^package main$`)

// commandModules returns the folders of the modules that hold a command.
func commandModules(files map[string]string, mods map[string]modFile) map[string]bool {
	commands := map[string]bool{}
	for file, text := range files {
		if path.Ext(file) != ".go" || !mainClause.MatchString(text) {
			continue
		}
		folder := path.Dir(file)
		for _, isModule := mods[folder]; !isModule && folder != "."; _, isModule = mods[folder] {
			folder = path.Dir(folder)
		}
		commands[folder] = true
	}
	return commands
}

func moduleProblems(mods map[string]modFile, work workFile, commands map[string]bool) []string {
	var problems, used []string
	for _, use := range work.Use {
		used = append(used, path.Clean(filepath.ToSlash(use.DiskPath)))
	}
	for folder, mod := range mods {
		published := folder != lintersModule && !slices.Contains(unpublishedModules, folder)
		if commands[folder] && published && len(mod.Replace) > 0 {
			problems = append(problems, fmt.Sprintf("%s/go.mod replaces %s: go install refuses such a module",
				folder, mod.Replace[0].Old.Path))
		}
		if slices.Contains(used, folder) == (folder == lintersModule) {
			problems = append(problems, fmt.Sprintf("%s/go.mod: go.work uses every module but %s", folder, lintersModule))
		}
		for _, need := range mod.Require {
			if folder == "." && !need.Indirect && need.Path != pgxPath {
				problems = append(problems, fmt.Sprintf("go.mod requires %s: the library depends on pgx and nothing else", need.Path))
			}
			if published && isUnpublished(need.Path) {
				problems = append(problems, fmt.Sprintf("%s/go.mod requires %s, which has no releases", folder, need.Path))
			}
		}
	}
	return problems
}

// generated is the line that marks a file nobody wrote, as go help generate says.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func sizeProblems(files, longFiles map[string]string) []string {
	var problems []string
	for file, text := range files {
		if path.Ext(file) != ".go" || generated.MatchString(text) {
			continue
		}
		lines := strings.Count(text, "\n")
		_, listed := longFiles[file]
		switch {
		case lines > maxFileLines && !listed:
			problems = append(problems, fmt.Sprintf("%s has %d lines: split it, at most %d are read in one go", file, lines, maxFileLines))
		case lines <= maxFileLines && listed:
			problems = append(problems, fmt.Sprintf("%s has %d lines: take it off the list of long files", file, lines))
		}
	}
	for file, why := range longFiles {
		if _, ok := files[file]; !ok || why == "" {
			problems = append(problems, fmt.Sprintf("%s is on the list of long files but is missing or has no reason", file))
		}
	}
	return problems
}

var exampleMark = regexp.MustCompile(`^<!-- from (\S+\.go) -->$`)

// pageProblems wants each Go block of a page to follow a line such as
// <!-- from examples/hello/main.go --> and to stand in that file line by line,
// however deep it is indented there: what the page shows compiles.
func pageProblems(name string, files map[string]string) []string {
	readme, ok := files[name]
	if !ok {
		return []string{name + " is missing"}
	}
	var problems []string
	lines := strings.Split(strings.TrimSuffix(readme, "\n"), "\n")
	if len(lines) > maxReadmeLines {
		problems = append(problems, fmt.Sprintf("%s has %d lines, at most %d are read", name, len(lines), maxReadmeLines))
	}
	mark := ""
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line != "```go" {
			if line != "" {
				mark = line
			}
			continue
		}
		start := i + 1
		for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
		}
		from := exampleMark.FindStringSubmatch(mark)
		switch {
		case from == nil:
			problems = append(problems, fmt.Sprintf("%s:%d: no line like <!-- from examples/hello/main.go --> before a Go block", name, start))
		case !strings.Contains(unindented(strings.Split(files[from[1]], "\n")), unindented(lines[start:i])):
			problems = append(problems, fmt.Sprintf("%s:%d: the block does not stand in %s", name, start, from[1]))
		}
		mark = ""
	}
	return problems
}

func unindented(lines []string) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, line := range lines {
		b.WriteString(strings.TrimSpace(line))
		b.WriteByte('\n')
	}
	return b.String()
}
