package pgtidehttp

import "strings"

// A glob is a path in which * stands for any text, slashes too.

// matchGlob reports whether path is one of those that glob stands for.
func matchGlob(glob, path string) bool {
	// Only the last * passed is ever looked at again: what an earlier one could
	// take besides, the last can take too.
	g, p, star, taken := 0, 0, -1, 0
	for p < len(path) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, taken = g, p
			g++
		case g < len(glob) && glob[g] == path[p]:
			g++
			p++
		case star >= 0:
			taken++
			g, p = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

// A shape is a pattern's path as symbols, in which globs and the patterns of
// http.ServeMux can be compared.
type shape []symbol

// symbol is a byte that stands for itself, or one of those below.
type symbol int16

const (
	anySegment symbol = 256 + iota // what {name} stands for
	anyText                        // what * and {name...} stand for
)

func globShape(path string) shape {
	var s shape
	for _, b := range []byte(path) {
		if b == '*' {
			s = append(s, anyText)
		} else {
			s = append(s, symbol(b))
		}
	}
	return s
}

// muxShape is that of the path of a pattern that http.ServeMux has accepted.
func muxShape(path string) shape {
	var s shape
	for i, segment := range strings.Split(path[1:], "/") {
		last := i == strings.Count(path[1:], "/")
		s = append(s, '/')
		switch {
		case segment == "" && last:
			s = append(s, anyText)
		case segment == "{$}":
		case strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "...}"):
			s = append(s, anyText)
		case strings.HasPrefix(segment, "{"):
			s = append(s, anySegment)
		default:
			s = append(s, globShape(segment)...)
		}
	}
	return s
}

// covers reports whether a stands for all that b stands for.
func (a shape) covers(b shape) bool {
	return newPairing(len(a), len(b)).any(func(i, j int, reach func(i, j int)) bool {
		switch {
		case i == len(a):
			return j == len(b)
		case a[i] == anyText:
			reach(i+1, j)
			if j < len(b) {
				reach(i, j+1)
			}
		case j == len(b):
		case a[i] == anySegment && b[j] != '/' && b[j] != anyText:
			reach(i+1, j+1)
			reach(i, j+1)
		case a[i] == b[j]:
			reach(i+1, j+1)
		}
		return false
	})
}

// meets reports whether there is a path that both a and b stand for.
func (a shape) meets(b shape) bool {
	inSegment := func(s symbol) bool { return s != '/' && s != anyText }
	return newPairing(len(a), len(b)).any(func(i, j int, reach func(i, j int)) bool {
		moreA, moreB := i < len(a), j < len(b)
		if !moreA && !moreB {
			return true
		}
		if moreA && a[i] == anyText {
			reach(i+1, j)
			if moreB {
				reach(i, j+1)
			}
		}
		if moreB && b[j] == anyText {
			reach(i, j+1)
			if moreA {
				reach(i+1, j)
			}
		}
		if !moreA || !moreB {
			return false
		}
		if a[i] == b[j] {
			reach(i+1, j+1)
		}
		if a[i] == anySegment && inSegment(b[j]) {
			reach(i+1, j+1)
			reach(i, j+1)
		}
		if b[j] == anySegment && inSegment(a[i]) {
			reach(i+1, j+1)
			reach(i+1, j)
		}
		return false
	})
}

// pairing walks pairs of places in two shapes, each pair at most once.
type pairing struct {
	width int
	seen  []bool
	todo  [][2]int
}

func newPairing(a, b int) *pairing {
	return &pairing{width: b + 1, seen: make([]bool, (a+1)*(b+1))}
}

// any reports whether step is true for a pair that can be reached from the
// beginning of both.
func (p *pairing) any(step func(i, j int, reach func(i, j int)) bool) bool {
	reach := func(i, j int) {
		if at := i*p.width + j; !p.seen[at] {
			p.seen[at] = true
			p.todo = append(p.todo, [2]int{i, j})
		}
	}
	for reach(0, 0); len(p.todo) > 0; {
		next := p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		if step(next[0], next[1], reach) {
			return true
		}
	}
	return false
}
