package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Cluster is a handle on a running or stopped cluster. It is safe for use by
// many goroutines at once. Get one from [Start] or [Open] and end it with
// [Cluster.Close] or [Cluster.Detach].
type Cluster struct {
	dir  string
	bin  binaries
	logf func(string, ...any)
	// guest: the servers belong to another living process. Servers that we
	// start would die with us, so a guest starts none.
	guest bool

	mu        sync.Mutex // guards the fields below
	last      *state     // for when the folder is gone
	nodes     map[string]*Node
	ownerLock *os.File
	portLocks map[string]*os.File // by node
	keep      bool                // Close leaves the folder
	closed    bool
}

// Dir returns the cluster folder.
func (c *Cluster) Dir() string { return c.dir }

// Version returns the servers' version, such as "17.5".
func (c *Cluster) Version() string { return c.state().Version }

// BinDir returns the folder of the server programs in use.
func (c *Cluster) BinDir() string { return c.state().BinDir }

// Database returns the name of the application's database.
func (c *Cluster) Database() string { return c.state().Database }

// AppRole returns the name of the application's role.
func (c *Cluster) AppRole() string { return c.state().AppRole }

// state reads what the folder says now: another process may have changed it.
func (c *Cluster) state() *state {
	s, err := loadState(c.dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.last = s
	}
	return c.last
}

func (c *Cluster) update(ctx context.Context, change func(*state) error) (*state, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	s, err := updateState(ctx, c.dir, change)
	if err == nil {
		c.mu.Lock()
		c.last = s
		c.mu.Unlock()
	}
	return s, err
}

// open returns ErrClosed once the handle has ended.
func (c *Cluster) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("%w: %s", ErrClosed, c.dir)
	}
	return nil
}

// Nodes returns all nodes in the order they were made, running or not,
// subscribers too.
func (c *Cluster) Nodes() []*Node {
	s := c.state()
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes := make([]*Node, 0, len(s.Nodes))
	for _, entry := range s.Nodes {
		n := c.nodes[entry.Name]
		if n == nil {
			n = &Node{c: c, name: entry.Name, port: entry.Port, dir: filepath.Join(c.dir, entry.Name), subscriber: entry.Subscriber != nil}
			c.nodes[entry.Name] = n
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// Node returns a node by its name: node1 is the first primary, node2 and so
// on the others, subscriber1 the first subscriber. A node keeps its name
// whatever its role.
func (c *Cluster) Node(name string) (*Node, error) {
	nodes := c.Nodes()
	names := make([]string, len(nodes))
	for i, n := range nodes {
		if n.name == name {
			return n, nil
		}
		names[i] = n.name
	}
	return nil, fmt.Errorf("no node %q in the cluster: there are %s", name, strings.Join(names, ", "))
}

// Primary returns the node that is out of recovery, running or not; if several
// are, as after the promotion of a replica beside a living primary, the one on
// the newest timeline. It is nil if every node is a replica. The answer is
// read from the nodes' folders, so it knows of promotions made with SQL too,
// and needs no server to answer.
func (c *Cluster) Primary() *Node {
	var primary *Node
	var newest uint32
	for _, n := range c.Nodes() {
		if n.Role() != RolePrimary {
			continue
		}
		if tli := n.timeline(); primary == nil || tli > newest {
			primary, newest = n, tli
		}
	}
	return primary
}

// Replicas returns the nodes that follow a primary, or will when they are
// started. A primary that was overtaken by a promotion is not among them until
// [Node.Rejoin].
func (c *Cluster) Replicas() []*Node {
	return slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return !n.standby() })
}

// Subscribers returns the nodes that subscribe to a primary's changes, see
// [Cluster.AddSubscriber].
func (c *Cluster) Subscribers() []*Node {
	return slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return !n.subscriber })
}

// DSN returns one connection URL of the application's role that names every
// node, without saying which one is the primary. Subscribers are not in it:
// they are servers of their own.
func (c *Cluster) DSN() string {
	s := c.state()
	var ports []int
	for _, n := range s.Nodes {
		if n.Subscriber == nil {
			ports = append(ports, n.Port)
		}
	}
	return dsn(s, s.AppRole, ports...)
}

func dsn(s *state, role string, ports ...int) string {
	hosts := make([]string, len(ports))
	for i, port := range ports {
		hosts[i] = net.JoinHostPort(loopback, strconv.Itoa(port))
	}
	user := url.User(role)
	if password := s.Passwords[role]; password != "" {
		user = url.UserPassword(role, password)
	}
	u := url.URL{Scheme: "postgres", User: user, Host: strings.Join(hosts, ","), Path: "/" + s.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Detach ends the handle and lets the servers run on, whatever becomes of this
// process. [Open] finds them again, and its Close stops them.
func (c *Cluster) Detach() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !c.guest {
		if err := c.release(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// release takes the servers out of this process's care; the handle goes on.
func (c *Cluster) release(ctx context.Context) error {
	if _, err := c.update(ctx, func(s *state) error {
		s.Detached, s.OwnerPID = true, 0
		return nil
	}); err != nil {
		return fmt.Errorf("detach %s: %w", c.dir, err)
	}
	var errs []error
	for _, n := range c.Nodes() {
		if srv := n.takeServer(); srv != nil && !srv.ended() {
			if err := srv.detach(); err != nil {
				errs = append(errs, fmt.Errorf("detach %s: %w", n.name, err))
			}
		}
	}
	c.unlock()
	return errors.Join(errs...)
}

// unlock gives up what keeps other labs out.
func (c *Cluster) unlock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, lock := range c.portLocks {
		lock.Close()
		delete(c.portLocks, name)
	}
	if c.ownerLock != nil {
		c.ownerLock.Close()
		c.ownerLock = nil
	}
}

// Keep makes Close leave a temporary folder in place, for somebody to look
// into after a test that did not pass.
func (c *Cluster) Keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = true
}

// Close stops every server, frozen ones too, and ends the handle. A temporary
// folder is removed, unless Options.Keep or [Cluster.Keep] said otherwise; a
// named one is kept, to be started again. On a cluster that another living process owns, Close ends the
// handle and touches nothing. It takes a few seconds at most. A second Close
// does nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	closed, keep := c.closed, c.keep
	c.closed = true
	c.mu.Unlock()
	if closed || c.guest {
		return nil
	}
	s := c.state()
	remove := s.Temporary && !keep
	err := inParallel(c.Nodes(), func(n *Node) error { return n.shutdown(!remove) })
	if remove {
		if errRemove := os.RemoveAll(c.dir); errRemove != nil {
			err = errors.Join(err, fmt.Errorf("remove the cluster folder: %w", errRemove))
		}
	}
	c.unlock()
	if err == nil {
		c.logf("closed the cluster in %s", c.dir)
	}
	return err
}
