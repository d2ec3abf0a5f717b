package pgtidehttp

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// Route overrides what the method says for some requests. Exactly one of Pattern
// and Name says which.
type Route struct {
	// Pattern is one of [http.ServeMux], such as "POST /events", "/admin/" or
	// "/users/{id}", or a path in which * stands for any text, slashes too:
	// "/admin/*" or "GET /*.json". Upper and lower case differ. Of several that
	// match, the most specific one holds, as in a ServeMux: one whose requests
	// are a part of the other's. Two patterns of which that cannot be said, and
	// that have requests in common, are an error.
	Pattern string
	// Name is the name of a route where the router has names: it holds for
	// requests of which [Options.RouteName] returns it, whatever patterns match.
	Name string
	// Use is where the calls go: primary, replica, group:NAME, or the name of a
	// consistency level as [pgtide.ParseConsistency] reads it, such as eventual
	// or 500ms. With primary the request counts as one that may write, with
	// replica as one that reads, else as its method says.
	Use string

	_ struct{} // field names are required
}

// rule is a Route, ready to be used.
type rule struct {
	choice
	note string

	pattern      string
	method, host string
	path         string // of a glob
	shape        shape
	glob         bool
	rank         int // how many rules are more specific: of those that match, the least holds
}

// ServeHTTP makes rules what an [http.ServeMux] finds.
func (*rule) ServeHTTP(http.ResponseWriter, *http.Request) {}

// table finds the rule of a request.
type table struct {
	names map[string]*rule
	mux   *http.ServeMux // nil without patterns
	rules []*rule
	globs []*rule
}

// newTable reads routes. hasGroup tells which groups there are.
func newTable(routes []Route, hasGroup func(string) bool) (*table, error) {
	t := &table{names: map[string]*rule{}}
	for _, route := range routes {
		if err := t.add(route, hasGroup); err != nil {
			return nil, fmt.Errorf("route %q: %w", route.Pattern+route.Name, err)
		}
	}
	if t.mux != nil {
		// A mux takes longest to find nothing. Where "/" has a rule, that stays.
		_ = register(t.mux, "/", http.NotFoundHandler())
	}
	for _, a := range t.rules {
		for _, b := range t.rules {
			if a == b {
				continue
			}
			over, under := a.covers(b), b.covers(a)
			if over == under && (a.glob || b.glob) && a.meets(b) { // the mux has compared the others
				return nil, fmt.Errorf("routes %q and %q: both match some requests and neither is more specific", a.pattern, b.pattern)
			}
			if over && !under {
				a.rank++
			}
		}
	}
	return t, nil
}

func (t *table) add(route Route, hasGroup func(string) bool) error {
	c, err := parseChoice(route.Use)
	if err == nil {
		err = c.known(hasGroup)
	}
	switch {
	case err != nil:
		return fmt.Errorf("use: %w", err)
	case (route.Pattern == "") == (route.Name == ""):
		return errors.New("set either Pattern or Name")
	case route.Name != "":
		if t.names[route.Name] != nil {
			return errors.New("the name has a route already")
		}
		t.names[route.Name] = &rule{choice: c, note: "route " + route.Name + ": " + route.Use}
		return nil
	}
	r := &rule{choice: c, note: "route " + route.Pattern + ": " + route.Use, pattern: route.Pattern, glob: strings.Contains(route.Pattern, "*")}
	if err := r.parse(); err != nil {
		return err
	}
	t.rules = append(t.rules, r)
	if r.glob {
		t.globs = append(t.globs, r)
		return nil
	}
	if t.mux == nil {
		t.mux = http.NewServeMux()
	}
	if err := register(t.mux, r.pattern, r); err != nil {
		return err
	}
	r.shape = muxShape(r.path)
	return nil
}

// parse splits r.pattern, and returns why no request can match it.
func (r *rule) parse() error {
	rest := r.pattern
	if method, after, ok := strings.Cut(rest, " "); ok {
		r.method, rest = method, strings.TrimLeft(after, " \t")
		if method != strings.ToUpper(method) {
			return fmt.Errorf("method %q never matches: methods are upper case", method)
		}
	}
	slash := strings.Index(rest, "/")
	switch {
	case slash < 0:
		return errors.New("it has no path, which begins with /")
	case strings.ContainsAny(rest, "?#"):
		return errors.New("it never matches: a path ends before ? and #")
	case slash > 0 && !strings.ContainsAny(rest[:slash], ".:") && rest[:slash] != "localhost":
		return fmt.Errorf("it is for requests to host %q: a path begins with /", rest[:slash])
	}
	r.host, r.path = rest[:slash], rest[slash:]
	switch {
	case path.Clean(r.path) != strings.TrimSuffix(r.path, "/") && r.path != "/":
		return fmt.Errorf("it never matches: the clean path is %q", path.Clean(r.path))
	case !r.glob:
	case r.host != "" || strings.ContainsAny(r.path, "{}"):
		return errors.New("a pattern with * has no host and no {}")
	default:
		r.shape = globShape(r.path)
	}
	return nil
}

// registeredAt is where a ServeMux says a pattern was registered: in this file.
var registeredAt = regexp.MustCompile(` \(registered at [^)]*\)`)

// register adds a pattern to mux, which panics when it cannot be used.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(registeredAt.ReplaceAllString(fmt.Sprint(p), ""))
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// covers reports whether all requests of b are requests of a. As in a ServeMux,
// one with a host is more specific than one without, whatever else they say.
func (a *rule) covers(b *rule) bool {
	if a.host != b.host {
		return a.host == ""
	}
	return coversMethod(a.method, b.method) && a.shape.covers(b.shape)
}

func coversMethod(a, b string) bool {
	return a == "" || a == b || a == http.MethodGet && b == http.MethodHead
}

// meets reports whether a and b have requests in common.
func (a *rule) meets(b *rule) bool {
	return (coversMethod(a.method, b.method) || coversMethod(b.method, a.method)) && a.shape.meets(b.shape)
}

// match returns the rule that holds for r, which the router calls name, or nil.
func (t *table) match(r *http.Request, name string) *rule {
	if found := t.names[name]; found != nil {
		return found
	}
	var best *rule
	if t.mux != nil {
		h, _ := t.mux.Handler(r)
		best, _ = h.(*rule) // else it is a redirect or not found
	}
	for _, glob := range t.globs {
		if (best == nil || glob.rank < best.rank) && coversMethod(glob.method, r.Method) && matchGlob(glob.path, r.URL.Path) {
			best = glob
		}
	}
	return best
}
