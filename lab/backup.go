package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// AddReplica makes one more replica from a copy of the running primary and
// returns once it streams.
func (c *Cluster) AddReplica(ctx context.Context) (*Node, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.mayStart(); err != nil {
		return nil, fmt.Errorf("add a replica: %w", err)
	}
	primary, err := c.backupSource(ctx)
	if err != nil {
		return nil, fmt.Errorf("add a replica: %w", err)
	}
	port, lock, err := claimPort(c.dir)
	if err != nil {
		return nil, fmt.Errorf("add a replica: %w", err)
	}
	var name string
	s, err := c.update(ctx, func(s *state) error {
		s.Made++
		name = nodeName(s.Made)
		s.Nodes = append(s.Nodes, nodeState{Name: name, Port: port})
		return nil
	})
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("add a replica: %w", err)
	}
	c.keepPort(name, lock)
	n, err := c.Node(name)
	if err == nil {
		err = n.populate(ctx, s, primary)
	}
	if err != nil {
		err = fmt.Errorf("add replica %s: %w", name, err)
		return nil, errors.Join(err, c.forget(name))
	}
	c.logf("added replica %s", name)
	return n, nil
}

// populate fills and starts a node that has nothing yet.
func (n *Node) populate(ctx context.Context, s *state, primary *Node) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	err := makeNodeDir(n.dir, s.Account)
	if err == nil {
		err = primary.backup(ctx, s, n.dataDir())
	}
	if err == nil {
		err = n.start(ctx)
	}
	if err == nil {
		err = n.connected(ctx)
	}
	return err
}

// forget takes back a node that could not be made.
func (c *Cluster) forget(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	n, err := c.Node(name)
	if err != nil {
		return err
	}
	err = n.shutdown(false)
	_, errState := c.update(ctx, func(s *state) error {
		for i := range s.Nodes {
			if s.Nodes[i].Name == name {
				s.Nodes = append(s.Nodes[:i], s.Nodes[i+1:]...)
				break
			}
		}
		return nil
	})
	c.mu.Lock()
	if lock := c.portLocks[name]; lock != nil {
		lock.Close()
		delete(c.portLocks, name)
	}
	delete(c.nodes, name)
	c.mu.Unlock()
	return errors.Join(err, errState, os.RemoveAll(n.dir))
}

// Rejoin brings a node back as a replica of the current primary, with a fresh
// copy of the primary's data: an old primary after a failover, or a replica
// that cannot follow any more. What the node had alone is lost. A running
// server is stopped at once. The current primary itself is refused. The
// node's cut and delay are over.
func (n *Node) Rejoin(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.rejoin(ctx); err != nil {
		return fmt.Errorf("rejoin %s: %w", n.name, err)
	}
	n.c.logf("%s rejoined as a replica", n.name)
	return nil
}

func (n *Node) rejoin(ctx context.Context) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	if err := n.c.mayStart(); err != nil {
		return err
	}
	if n.subscriber {
		return errors.New("it is a subscriber: resubscribe it")
	}
	if n.c.Primary() == n {
		return errors.New("it is the primary: promote a replica first")
	}
	primary, err := n.c.backupSource(ctx)
	if err != nil {
		return err
	}
	// The old data stay in place until the new copy is complete.
	fresh := filepath.Join(n.dir, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := primary.backup(ctx, n.c.state(), fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := n.kill(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dataDir()); err != nil {
		return err
	}
	if err := os.Rename(fresh, n.dataDir()); err != nil {
		return err
	}
	if _, err := n.c.update(ctx, func(s *state) error {
		entry, err := s.node(n.name)
		if err == nil {
			entry.Cut, entry.ApplyDelay, entry.SyncStandbys = false, 0, nil
		}
		return err
	}); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.connected(ctx)
}

// backupSource returns the running primary, which all replicas are told to
// follow if a promotion done with SQL has gone unnoticed so far.
func (c *Cluster) backupSource(ctx context.Context) (*Node, error) {
	primary := c.Primary()
	if primary == nil {
		return nil, errors.New("the cluster has no primary: promote a replica")
	}
	if err := primary.needRunning(); err != nil {
		return nil, err
	}
	if c.state().Upstream == primary.name {
		return primary, nil
	}
	return primary, c.follow(ctx, primary)
}

// backup copies the running server's data to dst, ready to start as a replica.
// No WAL is copied: the replica streams it from the start of the backup, and
// wal_keep_size keeps it there.
func (n *Node) backup(ctx context.Context, s *state, dst string) error {
	began := time.Now()
	start, stop := "select pg_backup_start('pgtide lab', true)", "select labelfile, spcmapfile from pg_backup_stop(false)"
	if s.Major < 15 {
		start, stop = "select pg_start_backup('pgtide lab', true, false)", "select labelfile, spcmapfile from pg_stop_backup(false, false)"
	}
	err := n.withConn(ctx, func(conn *pgx.Conn) error {
		// The server ends the backup by itself if this session is lost.
		if _, err := conn.Exec(ctx, start); err != nil {
			return err
		}
		if err := copyTree(ctx, n.dataDir(), dst, s.Account, notInBackup); err != nil {
			return err
		}
		control, _, err := readControl(n.dataDir())
		if err != nil {
			return err
		}
		if err := writeInPlace(filepath.Join(dst, controlFile), control); err != nil {
			return nameDiskFull(err)
		}
		var label, tablespaces string
		if err := conn.QueryRow(ctx, stop).Scan(&label, &tablespaces); err != nil {
			return err
		}
		return errors.Join(
			replaceFile(filepath.Join(dst, "backup_label"), []byte(label), s.Account),
			replaceFile(filepath.Join(dst, "standby.signal"), nil, s.Account))
	})
	if err != nil {
		return fmt.Errorf("back up %s: %w", n.name, err)
	}
	n.c.logf("copied %s in %d ms", n.name, time.Since(began).Milliseconds())
	return nil
}

// notInBackup lists what belongs to the running server and not to its data.
func notInBackup(name string) bool {
	switch name {
	case "postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "standby.signal", "recovery.signal",
		"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return true
	}
	base := path.Base(name)
	if path.Dir(name) == "pg_wal" {
		// The timeline histories are small, and a replica wants them.
		return base != "archive_status" && base != "summaries" && !strings.HasSuffix(base, ".history")
	}
	return strings.HasPrefix(base, "pgsql_tmp") || strings.HasPrefix(base, "pg_internal.init") || strings.HasSuffix(base, ".tmp") ||
		path.Dir(name) == "pg_wal/archive_status" || path.Dir(name) == "pg_wal/summaries"
}
