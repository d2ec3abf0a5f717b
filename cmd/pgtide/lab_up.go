package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

const defaultReplicas = 2

// upFlags are what lab up may be told.
type upFlags struct {
	replicas    int
	replicasSet bool // otherwise an existing cluster keeps what it has
	password    bool
	sync        string // as typed; see syncMode
	subscriber  bool
	subBinDir   string
	settings    []string // name=value
	verbose     bool
}

func (l *labCommand) newUp() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "start a cluster, or make one",
		Long: `Up starts a cluster and returns once every server takes connections and every
replica streams. The first time it makes the cluster; after that it starts the
one there is, with its data. Then --replicas adds what is missing, on a running
cluster too, and --set replaces all settings made before.

With --sync commits on the primary wait for all replicas: until they have written
them (on) or applied them (remote_apply). One that is stopped, killed or cut then
makes commits hang. It counts at once on a running cluster too, and until --sync
off.

With --subscriber there is a server that follows the primary by logical
replication, with the tables there are then; lab refresh adds later ones.`,
		Example: `  pgtide lab up
  pgtide lab up --cluster big --replicas 5
  pgtide lab up --dir /tmp/lab --password --set work_mem=64MB
  pgtide lab up --sync remote_apply
  pgtide lab up --subscriber --subscriber-bin /usr/lib/postgresql/18/bin`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.replicasSet = cmd.Flags().Changed("replicas")
			if f.replicas < 0 {
				return misuse(cmd, "--replicas takes a whole number from 0 on, not %d", f.replicas)
			}
			options, err := f.options()
			if err != nil {
				return misuse(cmd, "%w", err)
			}
			ctx, cancel, err := bounded(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			return l.up(ctx, f, options)
		},
	}
	cmd.Flags().IntVar(&f.replicas, "replicas", defaultReplicas, "`number` of replicas, none with 0")
	cmd.Flags().BoolVar(&f.password, "password", false, "let roles in by a random password only (see lab env)")
	cmd.Flags().StringVar(&f.sync, "sync", "", "what commits wait for, a `mode`: on, remote_apply or off")
	cmd.Flags().BoolVar(&f.subscriber, "subscriber", false, "also a subscriber, if there is none")
	cmd.Flags().StringVar(&f.subBinDir, "subscriber-bin", "", "`folder` of the subscriber's server programs, of any version")
	cmd.Flags().StringArrayVar(&f.settings, "set", nil, "server setting as `name=value`, on every node; repeatable")
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "print each step")
	addTimeout(cmd)
	return cmd
}

// options are the flags as the lab wants them.
func (f upFlags) options() (lab.Options, error) {
	o := lab.Options{Detach: true, Replicas: f.replicas}
	if f.password {
		o.Auth = lab.Password
	}
	mode, err := f.syncMode()
	if err != nil {
		return o, err
	}
	o.Synchronous = mode
	if f.subBinDir != "" && !f.subscriber {
		return o, errors.New("--subscriber-bin is of use with --subscriber only")
	}
	for _, setting := range f.settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			return o, fmt.Errorf("--set takes name=value, not %q", setting)
		}
		if o.Settings == nil {
			o.Settings = make(map[string]string)
		}
		o.Settings[name] = value
	}
	return o, nil
}

// syncMode reads what commits are to wait for.
func (f upFlags) syncMode() (lab.Sync, error) {
	switch f.sync {
	case "", "off":
		return lab.SyncOff, nil
	case string(lab.SyncOn), string(lab.SyncRemoteApply):
		return lab.Sync(f.sync), nil
	}
	return "", fmt.Errorf("--sync takes on, remote_apply or off, not %q", f.sync)
}

func (l *labCommand) up(ctx context.Context, f upFlags, o lab.Options) error {
	var err error
	if o.Dir, err = l.folder(); err != nil {
		return err
	}
	if f.verbose {
		var mu sync.Mutex // the lab reports from several goroutines
		o.Logf = func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			l.progress(format, args...)
		}
	}
	began := time.Now()
	c, err := lab.Open(ctx, o.Dir)
	switch {
	case errors.Is(err, lab.ErrForeignFolder): // a new one, or the lab will say what is in the way
		name := "a cluster"
		if l.dir == "" {
			name = l.called()
		}
		l.progress("making %s, a primary and %s, in %s ...", name, replicas(o.Replicas), o.Dir)
	case err != nil:
		return err
	default:
		status, err := c.Status(ctx)
		if err != nil {
			return errors.Join(err, c.Detach())
		}
		if runs(status) {
			return errors.Join(l.upRunning(ctx, c, status, f), c.Detach())
		}
		// Opening it made it ours if its owner had died; Start takes it from here.
		if err := c.Detach(); err != nil {
			return err
		}
		if !f.replicasSet {
			o.Replicas = 0
		}
		l.progress("starting %s ...", l.called())
	}
	if c, err = lab.Start(ctx, o); err != nil {
		return l.explainUp(err)
	}
	if f.sync == "off" { // which the lab takes for "as it was"
		err = c.SetSynchronous(ctx, lab.SyncOff)
	}
	if err == nil {
		err = l.addSubscriber(ctx, c, f)
	}
	if err != nil {
		return errors.Join(l.explainUp(err), c.Detach())
	}
	l.progress("ready after %.1f s", time.Since(began).Seconds())
	err = l.printStatus(ctx, c)
	l.hint("%s shows it again, %s measures the lag, %s stops it", l.again("status"), l.again("lag"), l.again("down"))
	return errors.Join(err, c.Detach())
}

// upRunning does what up can do for a cluster that is up already.
func (l *labCommand) upRunning(ctx context.Context, c *lab.Cluster, status lab.Status, f upFlags) error {
	if f.password || len(f.settings) > 0 {
		return withHint(fmt.Errorf("%s is running: --set and --password count from a start on", l.called()), "%s first", l.again("down"))
	}
	l.progress("%s is already running", l.called())
	if !status.Detached {
		l.progress("it belongs to process %d and ends with it", status.OwnerPID)
	}
	for f.replicasSet && len(c.Replicas()) < f.replicas {
		l.progress("adding a replica ...")
		if _, err := c.AddReplica(ctx); err != nil {
			return err
		}
	}
	if f.sync != "" {
		mode, err := f.syncMode()
		if err == nil {
			err = c.SetSynchronous(ctx, mode)
		}
		if err != nil {
			return l.explainUp(err)
		}
	}
	if err := l.addSubscriber(ctx, c, f); err != nil {
		return l.explainUp(err)
	}
	for _, n := range status.Nodes {
		switch n.State {
		case lab.Stopped:
			l.hint("%s is stopped: %s", n.Name, l.again("start "+n.Name))
		case lab.Frozen:
			l.hint("%s is frozen: %s", n.Name, l.again("thaw "+n.Name))
		}
	}
	return l.printStatus(ctx, c)
}

// addSubscriber makes the subscriber that was asked for, unless there is one.
func (l *labCommand) addSubscriber(ctx context.Context, c *lab.Cluster, f upFlags) error {
	if !f.subscriber {
		return nil
	}
	if there := c.Subscribers(); len(there) > 0 {
		l.hint("there is a subscriber: %s copies tables made since", l.again("refresh "+there[0].Name()))
		return nil
	}
	l.progress("adding a subscriber ...")
	_, err := c.AddSubscriber(ctx, lab.SubscriberOptions{BinDir: f.subBinDir})
	return err
}

// explainUp adds what this command knows and the lab does not.
func (l *labCommand) explainUp(err error) error {
	switch {
	case errors.Is(err, lab.ErrForeignFolder):
		return withHint(err, "give --dir a folder that is empty or missing")
	case errors.Is(err, context.DeadlineExceeded):
		return withHint(err, "--timeout 5m waits longer")
	}
	return err
}

// runs reports whether any server of the cluster is there.
func runs(s lab.Status) bool {
	for _, n := range s.Nodes {
		if n.State != lab.Stopped {
			return true
		}
	}
	return false
}

// replicas counts in words.
func replicas(n int) string {
	switch n {
	case 0:
		return "no replicas"
	case 1:
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
