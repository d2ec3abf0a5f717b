package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

// nodeAction is a subcommand that does one thing to each of some nodes.
type nodeAction struct {
	name      string
	short     string
	long      string
	needsName bool   // otherwise no name means all replicas, or subscribers
	subscribe bool   // it is for subscribers
	slow      string // what is happening meanwhile, if it takes a while
	done      string // what is printed behind the node's name
	do        func(*lab.Node, context.Context) error
}

var nodeActions = []nodeAction{
	{
		name:  "pause",
		short: "stop replicas from applying what they receive",
		long: `Pause stops replicas from applying; they still receive. A delayed replica pauses
only when its next commit is due, so end a long delay first. A restart of the
server ends the pause. A subscriber, if named, disables its subscription.`,
		done: "paused", do: (*lab.Node).PauseReplay,
	},
	{
		name:  "resume",
		short: "let paused replicas apply again",
		done:  "resumed", do: (*lab.Node).ResumeReplay,
	},
	{
		name:  "cut",
		short: "sever the replication link of replicas",
		long: `Cut severs the replication link: the replica receives nothing more, applies what
it has and answers queries. It stays cut over restarts, until heal. A subscriber,
if named, disables its subscription.`,
		done: "cut", do: (*lab.Node).Cut,
	},
	{
		name:  "heal",
		short: "restore the replication link of cut replicas",
		done:  "healed", do: (*lab.Node).Heal,
	},
	{
		name:      "freeze",
		short:     "stop servers in their tracks: connections stay open, nothing answers",
		long:      `Freeze sends SIGSTOP to all processes of a server, which then looks like a host that went silent.`,
		needsName: true, done: "frozen", do: (*lab.Node).Freeze,
	},
	{
		name:      "thaw",
		short:     "let frozen servers go on",
		needsName: true, done: "thawed", do: (*lab.Node).Thaw,
	},
	{
		name:      "stop",
		short:     "shut servers down cleanly",
		needsName: true, slow: "stopping", done: "stopped", do: (*lab.Node).Stop,
	},
	{
		name:      "kill",
		short:     "end servers at once, as a crash would",
		needsName: true, done: "killed", do: (*lab.Node).Kill,
	},
	{
		name:      "start",
		short:     "start stopped or killed servers",
		needsName: true, slow: "starting", done: "started", do: (*lab.Node).Start,
	},
	{
		name:  "rejoin",
		short: "bring nodes back as replicas of the current primary",
		long: `Rejoin gives a node a fresh copy of the current primary and starts it as a
replica: an old primary after a failover, or a replica that cannot follow any
more. What the node had alone is lost.`,
		needsName: true, slow: "copying the primary to", done: "rejoined", do: (*lab.Node).Rejoin,
	},
	{
		name:  "refresh",
		short: "copy tables made since to subscribers",
		long: `Refresh makes the tables that a subscriber does not have yet and copies them. It
leaves the tables there are as they are, also if the primary's have changed.`,
		subscribe: true, slow: "copying new tables to", done: "refreshed", do: (*lab.Node).Refresh,
	},
	{
		name:  "resubscribe",
		short: "let subscribers follow the current primary",
		long: `Resubscribe is for after a promotion, which leaves a subscriber with the old
primary: it empties the subscriber's tables and copies them from the current one.`,
		subscribe: true, slow: "copying the tables to", done: "resubscribed", do: (*lab.Node).Resubscribe,
	},
}

func (l *labCommand) newNodeCommand(a nodeAction) *cobra.Command {
	cmd := &cobra.Command{
		Use:     a.name + " [node...]",
		Short:   a.short,
		Long:    a.long,
		Example: "  pgtide lab " + a.name + "           # all replicas\n  pgtide lab " + a.name + " node2",
		RunE: func(cmd *cobra.Command, names []string) error {
			return l.with(cmd, func(ctx context.Context, c *lab.Cluster) error {
				pick := l.pickNodes
				if a.subscribe && len(names) == 0 {
					pick = l.pickSubscribers
				}
				nodes, err := pick(c, names)
				if err != nil {
					return err
				}
				if a.slow != "" {
					l.progress("%s %s ...", a.slow, nodeNames(nodes))
				}
				return l.onEach(nodes, func(n *lab.Node) (string, error) { return a.done, a.do(n, ctx) })
			})
		},
	}
	if a.subscribe {
		cmd.Example = "  pgtide lab " + a.name + "           # all subscribers\n  pgtide lab " + a.name + " subscriber1"
	}
	if a.needsName {
		cmd.Use = a.name + " node..."
		cmd.Example = "  pgtide lab " + a.name + " node2"
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misuse(cmd, "which node? for example: %s", l.again(a.name+" node2"))
			}
			return nil
		}
	}
	addTimeout(cmd)
	return cmd
}

// nodeNames joins the names of the nodes.
func nodeNames(nodes []*lab.Node) string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name()
	}
	return strings.Join(names, ", ")
}
