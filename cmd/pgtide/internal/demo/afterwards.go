package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgtide/pgtide/cmd/pgtide/internal/service"
	"github.com/pgtide/pgtide/lab"
)

// rejoin makes replicas of all nodes that do not follow the new primary: the
// old one, and a replica that had received more than the promoted one.
func (d *Demo) rejoin(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it takes too long"))
	defer cancel()
	status, err := d.cluster.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask for the cluster's status: %w", err)
	}
	primary := d.cluster.Primary().Name()
	for _, s := range status.Nodes {
		if s.Name == primary || s.Role == lab.RoleReplica && s.Streaming {
			continue
		}
		node, err := d.cluster.Node(s.Name)
		if err != nil {
			return err
		}
		if err := node.Rejoin(ctx); err != nil {
			return fmt.Errorf("rejoin %s: %w", s.Name, err)
		}
		d.story.say("%s has rejoined as a replica", s.Name)
	}
	if d.slow.Name() == primary {
		return nil
	}
	return d.slow.SetApplyDelay(ctx, d.options.Delay)
}

// renewNaive tells the naive router what it cannot find out: who is the primary
// now.
func (d *Demo) renewNaive(ctx context.Context) error {
	renewed, err := newNaiveRouter(ctx, d.cluster)
	if err != nil {
		return err
	}
	d.naive.Swap(renewed).close()
	return nil
}

// invite tells what to do with the running service.
func (d *Demo) invite() {
	url := d.api.url + service.Path
	d.story.title(`The service goes on; %[2]s is still %[3]s late. In a browser: %[4]s
In another terminal:

  curl -i -c jar -b jar -d '{"text":"hi"}' %[1]s
  curl -i -c jar -b jar '%[1]s?limit=3'
  curl -i '%[1]s?limit=3'
  curl -X PUT -d '{"text":"ho"}' %[1]s/ID
  curl -X DELETE %[1]s/ID

The second one always shows the message, the third one, without the cookie, when
the replica that serves it has it. The header X-Served-By names the node.
Ctrl-C ends it and removes everything.`, url, d.slow.Name(), seconds(d.options.Delay), d.api.url)
}
