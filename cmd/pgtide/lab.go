package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/clusters"
	"github.com/pgtide/pgtide/lab"
)

const (
	defaultCluster = "default"
	defaultTimeout = time.Minute
	slowAfter      = time.Second // what takes longer says so
)

// labCommand holds what all lab subcommands have in common.
type labCommand struct {
	streams
	cluster string // a name; see package clusters for its folder
	dir     string // a folder, in place of a name
}

// newLabCommand returns pgtide lab with its subcommands.
func newLabCommand(s streams) *cobra.Command {
	l := &labCommand{streams: s}
	cmd := newGroup(&cobra.Command{
		Use:   "lab",
		Short: "real PostgreSQL clusters on this machine, and faults in them",
		Long: `Lab runs a primary and its replicas on this machine, on loopback only, from the
PostgreSQL server programs that are installed. The servers keep running until
"pgtide lab down"; every command works on them from any terminal.

A cluster has a name, "default" if none is given; its folder is
$XDG_STATE_HOME/pgtide/clusters/NAME, or else ~/.local/state/pgtide/clusters/NAME,
or for root /var/lib/pgtide/clusters/NAME. With --dir it is any folder.
Its nodes are called node1, node2 and so on, whatever their role; subscribers,
which follow by logical replication, are subscriber1 and so on.`,
		Example: `  pgtide lab up                  # a primary and two replicas
  pgtide lab status
  pgtide lab delay 500ms node2   # node2 applies half a second late
  pgtide lab lag                 # how late each replica is, measured
  eval "$(pgtide lab env)"       # PGTIDE_DSN and others, for your program
  pgtide lab kill node1          # a crash of the primary,
  pgtide lab promote node2       # a failover
  pgtide lab rejoin node1        # and the old primary back as a replica
  pgtide lab down --delete`,
	})
	cmd.PersistentFlags().StringVar(&l.cluster, "cluster", defaultCluster, "`name` of the cluster")
	cmd.PersistentFlags().StringVar(&l.dir, "dir", "", "`folder` of the cluster, in place of a name")
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("cluster") && cmd.Flags().Changed("dir") {
			return misuse(cmd, "--cluster and --dir both say which cluster: give one of them")
		}
		return nil
	}
	cmd.AddCommand(l.newUp(), l.newDown(), l.newStatus(), l.newDelay(), l.newLag(), l.newPromote(), l.newPsql(), l.newEnv())
	for _, action := range nodeActions {
		cmd.AddCommand(l.newNodeCommand(action))
	}
	return cmd
}

// addTimeout gives a command that waits for servers its limit.
func addTimeout(cmd *cobra.Command) {
	cmd.Flags().Duration("timeout", defaultTimeout, "how `long` to wait for the servers")
}

// bounded is the command's context with its limit, if it has one.
func bounded(cmd *cobra.Command) (context.Context, context.CancelFunc, error) {
	limit, err := cmd.Flags().GetDuration("timeout")
	if err != nil { // the command has no such flag
		return cmd.Context(), func() {}, nil
	}
	if limit <= 0 {
		return nil, nil, misuse(cmd, "--timeout takes a duration above 0, not %s", limit)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	return ctx, cancel, nil
}

// folder returns the folder of the cluster the flags name.
func (l *labCommand) folder() (string, error) {
	if l.dir != "" {
		return l.dir, nil
	}
	dir, err := clusters.Folder(l.cluster)
	if err != nil {
		return "", &usageError{err}
	}
	return dir, nil
}

// called returns the words for the cluster in messages.
func (l *labCommand) called() string {
	if l.dir != "" {
		return "the cluster in " + l.dir
	}
	return "cluster " + l.cluster
}

// again returns a lab command line for the same cluster, to be used in hints.
func (l *labCommand) again(command string) string {
	verb, rest, _ := strings.Cut(command, " ")
	switch {
	case l.dir != "":
		verb += " --dir " + shellQuote(l.dir)
	case l.cluster != defaultCluster:
		verb += " --cluster " + l.cluster
	}
	return strings.TrimSpace("pgtide lab " + verb + " " + rest)
}

// open attaches to the cluster, or says which ones there are.
func (l *labCommand) open(ctx context.Context) (*lab.Cluster, error) {
	dir, err := l.folder()
	if err != nil {
		return nil, err
	}
	c, err := lab.Open(ctx, dir)
	if !errors.Is(err, lab.ErrForeignFolder) {
		return c, err
	}
	if l.dir != "" {
		return nil, withHint(err, "%s makes one there", l.again("up"))
	}
	missing := fmt.Errorf("there is no cluster %s", l.cluster)
	if names, _ := clusters.Names(); len(names) > 0 {
		return nil, withHint(missing, "there is %s; %s makes another one", strings.Join(names, ", "), l.again("up"))
	}
	return nil, withHint(missing, "%s makes it", l.again("up"))
}

// with runs use on the cluster and leaves its servers running.
func (l *labCommand) with(cmd *cobra.Command, use func(context.Context, *lab.Cluster) error) error {
	ctx, cancel, err := bounded(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	c, err := l.open(ctx)
	if err != nil {
		return err
	}
	err = use(ctx, c)
	return errors.Join(err, c.Detach())
}

// pickNodes returns the named nodes, each once, or all replicas if none is named.
func (l *labCommand) pickNodes(c *lab.Cluster, names []string) ([]*lab.Node, error) {
	if len(names) == 0 {
		replicas := c.Replicas()
		if len(replicas) == 0 {
			return nil, withHint(errors.New("the cluster has no replicas"), "%s adds one", l.again("up --replicas 1"))
		}
		return replicas, nil
	}
	var nodes []*lab.Node
	picked := make(map[string]bool)
	for _, name := range names {
		n, err := c.Node(name)
		if err != nil {
			return nil, err
		}
		if !picked[name] {
			picked[name] = true
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// pickSubscribers returns all subscribers.
func (l *labCommand) pickSubscribers(c *lab.Cluster, _ []string) ([]*lab.Node, error) {
	subscribers := c.Subscribers()
	if len(subscribers) == 0 {
		return nil, withHint(errors.New("the cluster has no subscriber"), "%s adds one", l.again("up --subscriber"))
	}
	return subscribers, nil
}

// onEach runs do on all nodes at once and prints what it says of each, in order.
func (l *labCommand) onEach(nodes []*lab.Node, do func(*lab.Node) (string, error)) error {
	said := make([]string, len(nodes))
	errs := make([]error, len(nodes))
	done := make(chan struct{})
	for i, n := range nodes {
		go func() {
			said[i], errs[i] = do(n)
			done <- struct{}{}
		}()
	}
	slow := time.NewTimer(slowAfter)
	defer slow.Stop()
	for left := len(nodes); left > 0; {
		select {
		case <-done:
			left--
		case <-slow.C:
			l.progress("waiting for %s ...", nodeNames(nodes))
		}
	}
	for i, n := range nodes {
		if errs[i] == nil {
			fmt.Fprintf(l.out, "%s %s\n", n.Name(), said[i])
		}
	}
	return errors.Join(errs...)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellQuote writes a word so that every POSIX shell reads it as it is.
func shellQuote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
