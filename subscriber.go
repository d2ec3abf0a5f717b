package pgtide

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pgtide/pgtide/internal/route"
	"github.com/pgtide/pgtide/internal/sqlkind"
	"github.com/pgtide/pgtide/internal/topology"
)

// errReadOnly is why a subscriber refuses what a standby would.
var errReadOnly = errors.New("a subscriber is only read from")

// fit returns the subscribers of v that the call may go to unless its caller names
// one, as a bit mask. What an earlier statement of the call has shown counts too.
func (c *call) fit(v *topology.View) uint64 {
	switch {
	case c.begin && c.sql == "":
		// A transaction or a connection, whose statements are looked at one by one:
		// there only who asks for such a group.
		if c.group == "" || c.req.Write == route.Write {
			return 0
		}
		return v.Subscribers & c.req.Group
	case c.req.Write != route.ReasonNone || c.mayCall:
		return 0 // the caller's word that it is a read does not say of what
	case c.several != nil:
		set := v.Subscribers
		for _, q := range c.several {
			set &= sqlkind.Fit(c.db.kinds.Mentions(q.SQL), v.Catalogs)
		}
		return set
	case c.sql == "":
		return 0
	}
	return sqlkind.Fit(c.db.kinds.Mentions(c.sql), v.Catalogs)
}

// unfit notes that the attempt's subscriber lacks what the statement needs.
func (c *call) unfit() {
	if c.sql != "" {
		sqlkind.Unfit(c.db.kinds.Mentions(c.sql), c.view.Catalogs, 1<<uint(c.node.place))
	}
}

// admissible returns an error if the call must not go to the subscriber n, which its
// caller has named. At level Eventual it is taken as it is.
func (c *call) admissible(v *topology.View, n *node) error {
	switch {
	case c.begin && c.req.Write == route.Write:
		return fmt.Errorf("node %q: %w: begin a transaction that is read only there", n.name(), errReadOnly)
	case c.req.Level == route.Eventual:
		return nil
	case c.several != nil:
		for _, q := range c.several {
			if err := c.lacks(v, n, q.SQL, c.db.kinds.Classify(q.SQL)); err != nil {
				return err
			}
		}
	case c.sql != "":
		return c.lacks(v, n, c.sql, c.db.kinds.Classify(c.sql))
	}
	return nil
}

// published returns an error if a further statement on the connection that the call
// holds must not be sent, as it leads to a subscriber.
func (c *call) published(sql string, k sqlkind.Verdict) error {
	if c.role() != topology.Subscriber {
		return nil
	}
	if m := c.db.kinds.Mentions(sql); k.Kind == sqlkind.Session && slices.Contains(m.Names, "write") ||
		slices.Contains(m.Names, "transaction_read_only") || slices.Contains(m.Names, "default_transaction_read_only") {
		return fmt.Errorf("node %q: %w", c.node.name(), errReadOnly)
	}
	v := c.db.watch.View()
	if c.req.Level == route.Eventual || c.db.seen(c.node) == nil {
		return nil
	}
	return c.lacks(v, c.node, sql, k)
}

// lacks returns an error if a read needs what the subscriber n may lack.
func (c *call) lacks(v *topology.View, n *node, sql string, k sqlkind.Verdict) error {
	if k.Kind != sqlkind.Read {
		return nil // the server refuses what writes; the rest asks for no proof
	}
	if k.Calls {
		return fmt.Errorf("%w: node %q: the statement calls a function, and what that reads does not show", ErrNotPublished, n.name())
	}
	name, ok := v.Catalogs.Lacks(n.place, c.db.kinds.Mentions(sql).Names)
	switch {
	case !ok:
		return nil
	case name == "":
		return fmt.Errorf("%w: node %q: it is not known what it has", ErrNotPublished, n.name())
	}
	return fmt.Errorf("%w: node %q: %q is not published, or not all of it, or is not the same there", ErrNotPublished, n.name(), name)
}
