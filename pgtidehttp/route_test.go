package pgtidehttp

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func hasGroup(name string) bool { return name == "analytics" }

func newTestTable(t testing.TB, routes ...Route) *table {
	t.Helper()
	table, err := newTable(routes, hasGroup)
	if err != nil {
		t.Fatalf("newTable: %v", err)
	}
	return table
}

func TestRoutes(t *testing.T) {
	routes := []Route{
		{Pattern: "/", Use: "replica"},
		{Pattern: "/admin/*", Use: "primary"},
		{Pattern: "/admin/reports/", Use: "group:analytics"},
		{Pattern: "GET /admin/reports/{id}", Use: "eventual"},
		{Pattern: "POST /events", Use: "replica"},
		{Pattern: "/users/{id}/edit", Use: "strong"},
		{Pattern: "/users/*", Use: "500ms"},
		{Pattern: "shop.example/", Use: "session"},
		{Pattern: "GET /files/*.json", Use: "read_your_writes"},
		{Name: "checkout", Use: "primary"},
	}
	for _, tt := range []struct{ method, target, name, want string }{
		{"GET", "/", "", "/"},
		{"GET", "/nothing/here", "", "/"},
		{"GET", "/admin", "", "/"}, // a router redirects it, or does not
		{"GET", "/admin/", "", "/admin/*"},
		{"POST", "/admin/auth/user/1", "", "/admin/*"},
		{"GET", "/Admin/auth", "", "/"},
		{"GET", "/admin/reports/", "", "/admin/reports/"},
		{"POST", "/admin/reports/7", "", "/admin/reports/"},
		{"GET", "/admin/reports/7", "", "GET /admin/reports/{id}"},
		{"HEAD", "/admin/reports/7", "", "GET /admin/reports/{id}"},
		{"POST", "/events", "", "POST /events"},
		{"GET", "/events", "", "/"},
		{"GET", "/users/7", "", "/users/*"},
		{"GET", "/users/7/edit", "", "/users/{id}/edit"},
		{"GET", "/users/7/8/edit", "", "/users/*"},
		{"GET", "//shop.example/anything", "", "shop.example/"},
		{"GET", "/files/a/b.json", "", "GET /files/*.json"},
		{"HEAD", "/files/a/b.json", "", "GET /files/*.json"},
		{"PUT", "/files/a/b.json", "", "/"},
		{"GET", "/admin/x", "checkout", "checkout"},
		{"GET", "/admin/x", "other", "/admin/*"},
	} {
		// The order of the table must not matter.
		for _, order := range []string{"as it is", "backwards"} {
			if slices.Reverse(routes); order == "as it is" {
				slices.Reverse(routes)
			}
			r := httptest.NewRequest(tt.method, tt.target, nil)
			if strings.HasPrefix(tt.target, "//") {
				r = httptest.NewRequest(tt.method, "http:"+tt.target, nil)
			}
			got := newTestTable(t, routes...).match(r, tt.name)
			if got == nil || !strings.HasPrefix(got.note, "route "+tt.want+": ") {
				t.Errorf("%s %s named %q, table %s: the rule is %+v, want %q", tt.method, tt.target, tt.name, order, got, tt.want)
			}
		}
	}
}

func TestRouteErrors(t *testing.T) {
	for _, tt := range []struct {
		routes []Route
		want   string
	}{
		{[]Route{{Pattern: "/a", Use: "slave1"}}, `"slave1" is not primary`},
		{[]Route{{Pattern: "/a"}}, `"" is not primary`},
		{[]Route{{Pattern: "/a", Use: "group:"}}, "is not primary"},
		{[]Route{{Pattern: "/a", Use: "group:reports"}}, `no node counts to group "reports"`},
		{[]Route{{Use: "primary"}}, "either Pattern or Name"},
		{[]Route{{Pattern: "/a", Name: "a", Use: "primary"}}, "either Pattern or Name"},
		{[]Route{{Name: "a", Use: "primary"}, {Name: "a", Use: "replica"}}, "has a route already"},
		{[]Route{{Pattern: "post /a", Use: "primary"}}, "upper case"},
		{[]Route{{Pattern: "admin", Use: "primary"}}, "no path"},
		{[]Route{{Pattern: "admin/x", Use: "primary"}}, `host "admin"`},
		{[]Route{{Pattern: "admin/*", Use: "primary"}}, `host "admin"`},
		{[]Route{{Pattern: "/a?b=c", Use: "primary"}}, "before ?"},
		{[]Route{{Pattern: "/a//b", Use: "primary"}}, "clean path"},
		{[]Route{{Pattern: "/a//*", Use: "primary"}}, "clean path"},
		{[]Route{{Pattern: "/a/../*", Use: "primary"}}, "clean path"},
		{[]Route{{Pattern: "/{a}/*", Use: "primary"}}, "no {}"},
		{[]Route{{Pattern: "/a{b}", Use: "primary"}}, "bad wildcard"},
		{[]Route{{Pattern: "/a", Use: "primary"}, {Pattern: "/a", Use: "replica"}}, "conflicts"},
		{[]Route{{Pattern: "/a/{x}", Use: "primary"}, {Pattern: "/{x}/b", Use: "replica"}}, "conflicts"},
		{[]Route{{Pattern: "/a/*", Use: "primary"}, {Pattern: "/a/", Use: "replica"}}, "neither is more specific"},
		{[]Route{{Pattern: "/a/*", Use: "primary"}, {Pattern: "/*/b", Use: "replica"}}, "neither is more specific"},
		{[]Route{{Pattern: "GET /*", Use: "primary"}, {Pattern: "/a/", Use: "replica"}}, "neither is more specific"},
	} {
		_, err := newTable(tt.routes, hasGroup)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("routes %+v: the error is %v, want it to say %q", tt.routes, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), ".go:") {
			t.Errorf("routes %+v: the error %q tells where pgtidehttp registered them", tt.routes, err)
		}
	}
}

// shapes and paths over a small alphabet meet each other often.
func randomText(rng *rand.Rand, alphabet string, most int) string {
	var b strings.Builder
	for range rng.IntN(most + 1) {
		b.WriteByte(alphabet[rng.IntN(len(alphabet))])
	}
	return "/" + b.String()
}

// covers and meets are held against the paths that two globs match.
func TestGlobShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var paths []string
	for _, a := range []string{"", "a", "b", "/"} {
		for _, b := range []string{"", "a", "b", "/"} {
			for _, c := range []string{"", "a", "b", "/"} {
				for _, d := range []string{"", "a", "b", "/"} {
					paths = append(paths, "/"+a+b+c+d)
				}
			}
		}
	}
	covering, meeting := 0, 0
	for range 3000 {
		a, b := randomText(rng, "ab/**", 4), randomText(rng, "ab/**", 4)
		covers, meets := globShape(a).covers(globShape(b)), globShape(a).meets(globShape(b))
		common := false
		for _, path := range paths {
			inA, inB := matchGlob(a, path), matchGlob(b, path)
			common = common || inA && inB
			if covers && inB && !inA {
				t.Fatalf("%q covers %q, but not its %q", a, b, path)
			}
			if !meets && inA && inB {
				t.Fatalf("%q does not meet %q, but both match %q", a, b, path)
			}
			if got := globShape(a).covers(globShape(path)); got != inA {
				t.Fatalf("%q covers the text %q: %v, and matches it: %v", a, path, got, inA)
			}
		}
		if covers {
			covering++
		}
		// Two globs of 4 symbols that meet do so within 8, of which paths has a part.
		if meets && common {
			meeting++
		}
	}
	if covering < 100 || meeting < 500 {
		t.Errorf("%d pairs cover each other and %d meet: too few to check", covering, meeting)
	}
}

func TestMuxShapes(t *testing.T) {
	for _, tt := range []struct {
		a, b          string // globs have a *
		covers, meets bool
	}{
		{"/a/", "/a/{x}", true, true},
		{"/a/{x}", "/a/", false, true},
		{"/a/{x}", "/a/b", true, true},
		{"/a/{x}", "/a/bcd", true, true},
		{"/a/{x}", "/a/bcd/e", false, false},
		{"/a/{x}", "/a/{$}", false, false},
		{"/a/{x...}", "/a/", true, true},
		{"/{x}/b", "/a/{x}", false, true},
		{"/a/*", "/a/{x}/b", true, true},
		{"/a/{x}/b", "/a/*", false, true},
		{"/a/*b", "/a/{x}", false, true},
		{"/{x}", "/a*", false, true},
		{"/a/{x}", "/a/b/*", false, false},
	} {
		shapeOf := func(path string) shape {
			if strings.Contains(path, "*") {
				return globShape(path)
			}
			return muxShape(path)
		}
		a, b := shapeOf(tt.a), shapeOf(tt.b)
		if got := a.covers(b); got != tt.covers {
			t.Errorf("%q covers %q: %v, want %v", tt.a, tt.b, got, tt.covers)
		}
		if got := a.meets(b); got != tt.meets {
			t.Errorf("%q meets %q: %v, want %v", tt.a, tt.b, got, tt.meets)
		}
		if got := b.meets(a); got != tt.meets {
			t.Errorf("%q meets %q: %v, want %v", tt.b, tt.a, got, tt.meets)
		}
	}
}

// FuzzRoutes reads any two routes and asks for any path. What New takes must
// match what it says, whichever comes first.
func FuzzRoutes(f *testing.F) {
	for _, pattern := range []string{"/", "/a/*", "GET /a/{x}", "POST /a", "/a/{x...}", "/*.json", "a.b/c", "/{$}", "/%2f/*", "* /", "GET  /*a*"} {
		f.Add(pattern, "/a/", "/a/b", "GET")
		f.Add("/a/*", pattern, "/a//b.json", "HEAD")
	}
	f.Fuzz(func(t *testing.T, a, b, path, method string) {
		if len(a)+len(b)+len(path) > 500 {
			return // comparing takes the product of the lengths
		}
		routes := []Route{{Pattern: a, Use: "primary"}, {Pattern: b, Use: "replica"}}
		there, err := newTable(routes, hasGroup)
		slices.Reverse(routes)
		back, errBack := newTable(routes, hasGroup)
		if (err == nil) != (errBack == nil) {
			t.Fatalf("routes %q and %q: %v in one order, %v in the other", a, b, err, errBack)
		}
		r, reqErr := http.NewRequest(method, "http://host", nil)
		if err != nil || reqErr != nil {
			return
		}
		r.URL.Path = path
		x, y := there.match(r, ""), back.match(r, "")
		if fmt.Sprint(x != nil, y != nil) == "true true" && x.pattern != y.pattern || (x == nil) != (y == nil) {
			t.Fatalf("routes %q and %q, path %q: %+v in one order, %+v in the other", a, b, path, x, y)
		}
		if x != nil && x.glob && !matchGlob(x.path, path) {
			t.Fatalf("route %q holds for path %q, which it does not match", x.pattern, path)
		}
	})
}
