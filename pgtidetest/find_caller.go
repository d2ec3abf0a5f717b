package pgtidetest

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Whoever waits for an answer of a server in this process stands in a function of
// the driver, with the line of the program that made the call further out. So the
// stacks of all goroutines tell who has sent what the witness holds in its hand,
// whoever made the pool.

// site is a place in the program that makes a call.
type site struct{ files []string } // file:line of its functions, the innermost first

// mostFrames bounds a site.
const mostFrames = 8

func (s site) String() string {
	if len(s.files) == 0 {
		return "unknown line"
	}
	text := relative(s.files[0])
	for _, further := range s.files[1:] {
		if !sameFile(s.files[0], further) {
			return text + " (called from " + relative(further) + ")"
		}
	}
	return text
}

// split returns the innermost file and line.
func (s site) split() (file string, line int) {
	if len(s.files) == 0 {
		return "", 0
	}
	i := strings.LastIndexByte(s.files[0], ':')
	line, _ = strconv.Atoi(s.files[0][i+1:])
	return s.files[0][:i], line
}

func sites(all []site) string {
	if len(all) == 0 {
		return site{}.String()
	}
	var words []string
	for _, s := range all {
		words = append(words, s.String())
	}
	return strings.Join(words, " or ")
}

// relative shortens files in the package under test, as go test does.
func relative(place string) string {
	dir, err := os.Getwd()
	if err != nil {
		return place
	}
	short, err := filepath.Rel(dir, place)
	if err != nil || strings.HasPrefix(short, "..") {
		return place
	}
	return short
}

// waiter is a goroutine that talks to a server.
type waiter struct {
	site   site
	driver string // the driver's connection, as an opaque word; empty if not told
	id     string // of the goroutine
	pgx    bool   // the driver is pgx
	watch  bool   // it is a prober of pgtide
	own    bool   // it is this package's
}

// driverPrefix begins the functions that pgx waits in.
const driverPrefix = "github.com/jackc/pgx/v5/pgconn."

// waiters returns all goroutines that talk to servers now, but for those that are
// known to belong to another test than that of the goroutine root.
func waiters(root string) []waiter {
	buf := make([]byte, 1<<18)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || n >= 64<<20 {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var all []waiter
	parents := map[string]string{}
	tests := map[string]bool{}
	for block := range strings.SplitSeq(string(buf), "\n\n") {
		id := goroutineID(block)
		if i := strings.LastIndex(block, " in goroutine "); i >= 0 {
			parents[id], _, _ = strings.Cut(block[i+len(" in goroutine "):], "\n")
		}
		tests[id] = strings.Contains(block, "\ntesting.tRunner(") || strings.Contains(block, "\n"+ownPrefix+"(*run).do.")
		if w, ok := parseWaiter(block); ok {
			w.id = id
			all = append(all, w)
		}
	}
	around := map[string]bool{} // the run and the tests around it
	for id := root; id != "" && !around[id]; id = parents[id] {
		around[id] = true
	}
	return slices.DeleteFunc(all, func(w waiter) bool {
		for id := w.id; id != "" && !around[id]; id = parents[id] {
			if tests[id] {
				return true
			}
		}
		return false
	})
}

// goroutineID reads the head of a stack.
func goroutineID(stack string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
	return id
}

// thisGoroutine returns the id of its caller's goroutine.
func thisGoroutine() string {
	var buf [64]byte
	return goroutineID(string(buf[:runtime.Stack(buf[:], false)]))
}

// parseWaiter reads the stack of one goroutine.
func parseWaiter(block string) (w waiter, ok bool) {
	if !strings.Contains(block, driverPrefix) && !strings.Contains(block, "net.(*conn).") {
		return w, false
	}
	lines := strings.Split(block, "\n")[1:]
	library := ""
	waits := false
	for len(lines) >= 2 {
		if strings.HasPrefix(lines[0], "...") { // frames left out
			lines = lines[1:]
			continue
		}
		function, place := lines[0], strings.TrimSpace(lines[1])
		lines = lines[2:]
		place, _, _ = strings.Cut(place, " +0x")
		function, started := strings.CutPrefix(function, "created by ")
		if started {
			function, _, _ = strings.Cut(function, " in goroutine ")
		}
		name, args := function, ""
		if i := strings.LastIndexByte(function, '('); i > 0 && !started {
			name, args = function[:i], function[i+1:]
		}
		switch {
		case started && strings.HasPrefix(name, driverPrefix):
			return w, false // the driver's own
		case started:
		case strings.HasPrefix(name, "net.(*Dialer)."):
			return w, false // there is no connection yet
		case strings.HasPrefix(name, driverPrefix+"connect"):
			return w, false // nor has it sent a statement yet
		case strings.HasPrefix(name, driverPrefix):
			waits, w.pgx = true, true
		case strings.HasPrefix(name, "net.(*conn)."):
			waits = true
		case strings.HasPrefix(name, "net/http.") && len(w.site.files) == 0 && !w.pgx:
			return w, false // another protocol
		case strings.HasPrefix(name, "github.com/pgtide/pgtide/internal/watch."):
			w.watch = true
		}
		if w.driver == "" && strings.HasPrefix(name, driverPrefix+"(*PgConn).") && strings.HasPrefix(args, "0x") {
			if word, _, _ := strings.Cut(strings.TrimSuffix(args, ")"), ","); !strings.HasSuffix(word, "?") {
				w.driver = word
			}
		}
		switch {
		case started && !isProgram(name, place):
		case isProgram(name, place):
			if len(w.site.files) < mostFrames {
				w.site.files = append(w.site.files, place)
			}
		case strings.HasPrefix(name, ownPrefix):
			w.own = w.own || len(w.site.files) == 0
		case library == "" && !isStandard(name, place) && !hasAnyPrefix(name, between) && !isTide(name):
			library = place
		}
	}
	if len(w.site.files) == 0 && library != "" {
		w.site.files = []string{library}
	}
	return w, waits
}

const ownPrefix = "github.com/pgtide/pgtide/pgtidetest."

func sameFile(a, b string) bool {
	return a[:strings.LastIndexByte(a, ':')] == b[:strings.LastIndexByte(b, ':')]
}

// isProgram reports whether a function is the user's own, of this module or any
// other whose source is not in the module cache.
func isProgram(function, place string) bool {
	file := filepath.ToSlash(place[:max(0, strings.LastIndexByte(place, ':'))])
	switch {
	case strings.HasSuffix(file, "_test.go"):
		return true
	case isStandard(function, place), isTide(function), hasAnyPrefix(function, between):
		return false
	}
	return file != "" && !strings.Contains(file, "/pkg/mod/") && !strings.Contains(file, "/vendor/") && !strings.Contains(file, "@v")
}

// isTide reports whether a function belongs to what this project publishes.
func isTide(function string) bool {
	rest, ok := strings.CutPrefix(function, "github.com/pgtide/pgtide")
	if !ok {
		return false
	}
	return rest[0] == '.' || strings.HasPrefix(rest, "/pgtide") || strings.HasPrefix(rest, "/internal/") || strings.HasPrefix(rest, "/lab.")
}

// standard is where the source of the standard library is; empty if the program
// was built with -trimpath.
var standard = func() string {
	f := runtime.FuncForPC(reflect.ValueOf(strings.Cut).Pointer())
	file, _ := f.FileLine(f.Entry())
	return strings.TrimSuffix(filepath.ToSlash(file), "strings/strings.go")
}()

func isStandard(function, place string) bool {
	if standard != "" {
		return strings.HasPrefix(filepath.ToSlash(place), standard)
	}
	first, _, _ := strings.Cut(function, "/")
	return !strings.Contains(first, ".") || !strings.Contains(function, "/") && slices.Contains([]string{"runtime", "net", "sync", "testing", "context"}, function[:max(0, strings.IndexByte(function, '.'))])
}

// callers says whose the statement is that w is about to send on.
func (w *witness) callers(c *wire) []site {
	var found []waiter
	w.mu.Lock()
	root := w.root
	w.mu.Unlock()
	all := waiters(root)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range all {
		if g.watch || g.own {
			continue
		}
		if c.driver != "" && g.driver == c.driver {
			return []site{g.site}
		}
		if other := w.drivers[g.driver]; g.driver != "" && other != nil && other != c {
			continue // it waits for another connection
		}
		found = append(found, g)
	}
	if slices.ContainsFunc(found, func(g waiter) bool { return g.pgx }) {
		found = slices.DeleteFunc(found, func(g waiter) bool { return !g.pgx })
	}
	if len(found) == 1 && found[0].driver != "" && c.driver == "" {
		c.driver = found[0].driver
		w.drivers[c.driver] = c
	}
	var out []site
	for _, g := range found {
		if !slices.ContainsFunc(out, func(s site) bool { return fmt.Sprint(s) == fmt.Sprint(g.site) }) {
			out = append(out, g.site)
		}
	}
	return out
}

// forget ends what is known of a connection.
func (w *witness) forget(c *wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.drivers[c.driver] == c {
		delete(w.drivers, c.driver)
	}
}
