// Package sqlcase makes the statements that a classifier is tested with: those of
// tables that a person wrote, and any number that are composed by a grammar which
// knows what makes a statement more than a read, and how that can be hidden.
package sqlcase

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Case is one entry of a table.
type Case struct {
	Line int    // where it begins
	Want string // the verdict
	SQL  string
}

// Read reads a table of lines, each a verdict, a bar and a statement. A line
// without a verdict goes on with the statement above. Empty lines and those that
// begin with # do not count.
func Read(r io.Reader) ([]Case, error) {
	var cases []Case
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		want, sql, ok := strings.Cut(line, "| ")
		want = strings.TrimSpace(want)
		switch {
		case !ok:
			return nil, fmt.Errorf("line %d: no bar in %q", n, line)
		case want != "":
			cases = append(cases, Case{n, want, sql})
		case len(cases) == 0:
			return nil, fmt.Errorf("line %d: nothing to go on with", n)
		default:
			cases[len(cases)-1].SQL += "\n" + sql
		}
	}
	return cases, lines.Err()
}
