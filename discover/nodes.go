package discover

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/pgtide/pgtide"
)

// errNoNodes is an answer that names no node.
var errNoNodes = errors.New("the answer names no node")

// errTooMany is an answer that names more nodes than a DB can have.
func errTooMany(n int, what string) error {
	return fmt.Errorf("the answer names %d %s, the limit is %d nodes", n, what, pgtide.MaxNodes)
}

func errSameName(name string) error {
	return fmt.Errorf("two nodes are called %q: let Map give each its own name", name)
}

// answer puts nodes in an order that does not depend on who answered, and makes
// sure that pgtide can use them.
func answer(nodes []pgtide.Node) ([]pgtide.Node, error) {
	if len(nodes) == 0 {
		return nil, errNoNodes
	}
	if len(nodes) > pgtide.MaxNodes {
		return nil, errTooMany(len(nodes), "nodes")
	}
	slices.SortFunc(nodes, func(a, b pgtide.Node) int { return cmp.Compare(a.Name, b.Name) })
	for i, n := range nodes {
		if n.Name == "" {
			return nil, errors.New("a node has no name: let Map give it one")
		}
		if i > 0 && nodes[i-1].Name == n.Name {
			return nil, errSameName(n.Name)
		}
	}
	return nodes, nil
}

// String is a name for the server at p that stays when others come and go: so
// the usual port is left out, and any other never.
func (p place) String() string {
	if p.port == defaultPort {
		return p.host
	}
	return net.JoinHostPort(p.host, strconv.Itoa(int(p.port)))
}
