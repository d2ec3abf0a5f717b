package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// portAttempts is how often a new cluster tries other ports when programs that
// know nothing of our locks are faster.
const portAttempts = 5

func nodeName(number int) string { return "node" + strconv.Itoa(number) }

// Start makes a cluster, or starts the one a named folder holds, and returns
// once every server takes connections and every replica streams. Nothing is
// left behind if it does not succeed. Without a deadline in ctx it gives up
// after a minute. The caller must end the handle with [Cluster.Close].
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	asked := o
	o, err := o.normalize()
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if o.Dir != "" {
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return nil, fmt.Errorf("start a cluster: %w", err)
		}
		if _, err := os.Stat(filepath.Join(o.Dir, stateFile)); err == nil {
			c, err := resume(ctx, o, asked)
			if err != nil {
				return nil, fmt.Errorf("start the cluster in %s: %w", o.Dir, err)
			}
			return c, nil
		}
	}
	c, err := create(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	return c, nil
}

// create makes a new cluster.
func create(ctx context.Context, o Options) (_ *Cluster, err error) {
	began := time.Now()
	owner, err := serverAccount()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, o.BinDir, owner)
	if err != nil {
		return nil, err
	}
	made, err := makeFolder(&o)
	if err != nil {
		return nil, err
	}
	c := newCluster(o.Dir, bin, o)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.discard(o, made))
		}
	}()
	if c.ownerLock, err = tryLock(filepath.Join(o.Dir, ownerLockFile)); err != nil {
		return nil, folderInUse(o.Dir, 0, err)
	}
	s := &state{
		Format: stateFormat, Version: bin.version, Major: bin.major, BinDir: bin.dir, Account: owner,
		Auth: o.Auth, AppRole: o.AppRole, Database: o.Database, Durable: o.Durable, Settings: o.Settings,
		Temporary: made.temporary && !o.Keep, OwnerPID: os.Getpid(),
		Upstream: nodeName(1), Sync: o.Synchronous, SyncNodes: o.SyncReplicas,
	}
	if o.Auth == Password {
		s.Passwords = newPasswords(o.AppRole)
	}
	for range 1 + o.Replicas {
		s.Made++
		s.Nodes = append(s.Nodes, nodeState{Name: nodeName(s.Made)})
	}
	for _, n := range s.Nodes[1:] {
		if s.wantsSync(n.Name) {
			s.Nodes[0].SyncStandbys = append(s.Nodes[0].SyncStandbys, n.Name)
		}
	}
	c.last = s
	if err := s.checkSync(o.Synchronous, o.SyncReplicas); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	if err := owner.reach(ctx, o.Dir); err != nil {
		return nil, err
	}
	if err := c.choosePorts(s); err != nil {
		return nil, err
	}
	if err := s.save(c.dir); err != nil {
		return nil, err
	}
	if err := c.makeNodes(ctx, s); err != nil {
		return nil, err
	}
	if err := c.startNew(ctx); err != nil {
		return nil, err
	}
	if o.Detach {
		if err := c.release(ctx); err != nil {
			return nil, err
		}
	}
	c.logf("cluster of %d ready in %s after %d ms", len(s.Nodes), c.dir, time.Since(began).Milliseconds())
	return c, nil
}

// choosePorts gives every node a port, or those in again another one.
func (c *Cluster) choosePorts(s *state, again ...string) error {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if len(again) > 0 && !slices.Contains(again, n.Name) {
			continue
		}
		port, lock, err := claimPort(c.dir)
		if err != nil {
			return err
		}
		n.Port = port
		c.keepPort(n.Name, lock)
	}
	return nil
}

// keepPort holds a node's port lock, in place of an older one.
func (c *Cluster) keepPort(node string, lock *os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.portLocks[node]; old != nil {
		old.Close()
	}
	c.portLocks[node] = lock
}

// makeNodes makes the node folders: all nodes begin as the same shut down
// server, and a file makes all but the first one replicas.
func (c *Cluster) makeNodes(ctx context.Context, s *state) error {
	dataDirs := make([]string, len(s.Nodes))
	for i, n := range c.Nodes() {
		if err := makeNodeDir(n.dir, s.Account); err != nil {
			return err
		}
		dataDirs[i] = n.dataDir()
	}
	err := c.fillDataDirs(ctx, c.bin, s, c.dir, dataDirs)
	for _, dir := range dataDirs[1:] {
		if err == nil {
			err = replaceFile(filepath.Join(dir, "standby.signal"), nil, s.Account)
		}
	}
	return err
}

// fillDataDirs makes data directories of one new server from the template,
// which is made in the scratch folder if it is not in the cache.
func (c *Cluster) fillDataDirs(ctx context.Context, bin binaries, s *state, scratch string, dataDirs []string) error {
	t, err := cachedTemplate(ctx, bin, s, scratch, c.logf)
	if errors.Is(err, errNoCache) {
		c.logf("running initdb for this cluster alone: %v", err)
		t, err = privateTemplate(ctx, bin, s, scratch)
	}
	if err != nil {
		return err
	}
	err = copyTemplate(ctx, bin, s, t, dataDirs)
	if errors.Is(err, errUnknownLayout) {
		c.logf("running initdb for this cluster alone: %v", err)
		for _, dir := range dataDirs {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
		if t, err = privateTemplate(ctx, bin, s, scratch); err == nil {
			err = copyTemplate(ctx, bin, s, t, dataDirs)
		}
	}
	if err == nil && t.private {
		err = os.Remove(t.archive)
	}
	return err
}

func makeNodeDir(dir string, owner account) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nameDiskFull(err)
	}
	return owner.give(dir)
}

// startNew starts all nodes of a new cluster at once, and again on other ports
// if somebody has taken one between the trial and the start.
func (c *Cluster) startNew(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		taken, err := c.startAll(ctx)
		if err == nil || len(taken) == 0 || attempt == portAttempts {
			return err
		}
		c.logf("choosing other ports: %v", err)
		for _, n := range c.Nodes() {
			if err := n.shutdown(false); err != nil {
				return err
			}
		}
		s, err := c.update(ctx, func(s *state) error { return c.choosePorts(s, taken...) })
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, entry := range s.Nodes {
			c.nodes[entry.Name].port = entry.Port
		}
		c.mu.Unlock()
	}
}

// startAll starts every node that is not running and returns once replicas and
// subscribers stream, or else the nodes whose port was taken.
func (c *Cluster) startAll(ctx context.Context) (taken []string, err error) {
	nodes := c.Nodes()
	if len(nodes) == 0 {
		return nil, nil
	}
	// The first error ends the wait for the others.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		node string
		err  error
	}
	results := make(chan result)
	for _, n := range nodes {
		go func() {
			n.turn.Lock()
			defer n.turn.Unlock()
			results <- result{n.name, n.start(ctx)}
		}()
	}
	for range nodes {
		r := <-results
		if errors.Is(r.err, ErrPortTaken) {
			taken = append(taken, r.node)
		}
		if r.err != nil && err == nil {
			err = r.err
			cancel(errors.New("another node did not start"))
		}
	}
	if err != nil {
		return taken, err
	}
	return nil, inParallel(nodes, func(n *Node) error { return n.connected(ctx) })
}
