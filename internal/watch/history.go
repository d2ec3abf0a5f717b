package watch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/topology"
)

// asked is what a prober has asked the history of.
type asked struct {
	incarnation int64
	timeline    uint32
}

// learn asks the node where its timeline left the one before, when nobody saw
// it: a process that starts after a failover cannot tell otherwise what became
// of tokens from before. Only a role with the REPLICATION attribute may ask; it
// takes a second connection for that moment, once.
func (p *prober) learn(o topology.Observation) {
	timeline := o.Position.Timeline
	now := asked{o.Incarnation, timeline}
	if timeline <= 1 || p.asked == now || p.watcher.View().History.Knows(timeline) {
		return
	}
	p.asked = now
	p.watcher.done.Go(func() {
		switches, err := p.history(timeline)
		if err != nil {
			return // as long as it is not known, such tokens are honoured by the primary alone
		}
		p.watcher.learned(switches)
	})
}

// history reads the history of a timeline over the replication protocol.
func (p *prober) history(timeline uint32) ([]topology.Switch, error) {
	ctx, cancel := context.WithTimeout(p.context, p.watcher.options.Timeout)
	defer cancel()
	config := p.node.Config.Copy()
	if f := p.node.Prepare; f != nil {
		if err := f(ctx, config); err != nil {
			return nil, err
		}
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, &config.Config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", timeline)).ReadAll()
	switch {
	case err != nil:
		return nil, err
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2:
		return nil, errors.New("no history came back")
	}
	return parseHistory(string(results[0].Rows[0][1]), timeline)
}

// parseHistory reads a timeline history file: a line for each timeline before
// this one, with its number and the LSN at which it was left, tabs between them.
func parseHistory(text string, timeline uint32) ([]topology.Switch, error) {
	var switches []topology.Switch
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		from, err := strconv.ParseUint(words[0], 10, 32)
		if err != nil || len(words) < 2 || from == 0 {
			return nil, fmt.Errorf("timeline history: line %q is not a timeline and an LSN", line)
		}
		at, err := topology.ParseLSN(words[1])
		if err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
		if n := len(switches); n > 0 {
			switches[n-1].To = uint32(from)
		}
		switches = append(switches, topology.Switch{From: uint32(from), To: timeline, At: at})
	}
	for _, s := range switches {
		if s.From >= s.To {
			return nil, fmt.Errorf("timeline history: timeline %d comes before %d", s.From, s.To)
		}
	}
	return switches, nil
}

// learned takes in promotions that a server has told of.
func (w *Watcher) learned(switches []topology.Switch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(switches) > 0 && !w.closed {
		w.publish(w.tracker.Learn(switches))
	}
}
