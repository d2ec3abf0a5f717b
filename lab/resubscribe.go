package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// oldSlotGrace is how long Resubscribe tries to tidy up on a server that it
// does not need any more.
const oldSlotGrace = 2 * time.Second

// Resubscribe makes a subscriber follow the current primary, and returns once
// the tables are copied: after a promotion, which leaves the subscription's slot
// behind with the old primary, or when the subscription cannot go on. Nothing
// is known then of what lies between the two positions, so the tables are
// emptied and copied anew; readers see them empty meanwhile. A cut and a pause
// are over.
func (n *Node) Resubscribe(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.resubscribe(ctx); err != nil {
		return fmt.Errorf("resubscribe %s: %w", n.name, err)
	}
	n.c.logf("%s follows %s", n.name, n.c.state().Upstream)
	return nil
}

func (n *Node) resubscribe(ctx context.Context) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	entry, err := n.subscriberEntry(n.c.state())
	if err != nil {
		return err
	}
	if err := n.needRunning(); err != nil {
		return err
	}
	primary, err := n.c.backupSource(ctx)
	if err != nil {
		return err
	}
	if err := primary.mayPublish(ctx); err != nil {
		return err
	}
	sub := entry.Subscriber
	if err := n.withApplication(ctx, func(conn *pgx.Conn) error { return dropSubscription(ctx, conn, sub.Subscription) }); err != nil {
		return err
	}
	if sub.Source != primary.name {
		n.dropOldSlot(ctx, sub)
	}
	var tables []uint32
	err = primary.withApplication(ctx, func(conn *pgx.Conn) error {
		if err := dropSlots(ctx, conn, sub.Subscription, ""); err != nil {
			return err
		}
		there, err := hasPublication(ctx, conn, sub.Publication)
		if err == nil && !there {
			// It may not have reached the replica that is the primary now.
			if !sub.All {
				return fmt.Errorf("%s has no publication %s: make it", primary.name, sub.Publication)
			}
			if tables, err = chosenTables(ctx, conn, nil); err == nil {
				_, err = createPublication(ctx, conn, sub.Publication, tables)
			}
		}
		if err != nil {
			return err
		}
		if tables, err = publicationTables(ctx, conn, sub.Publication); err != nil {
			return err
		}
		if err := n.copySchema(ctx, conn, tables); err != nil {
			return err
		}
		names, err := tableNames(ctx, conn, tables)
		if err != nil || len(names) == 0 {
			return err
		}
		return n.withApplication(ctx, func(conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, "truncate "+strings.Join(names, ", ")); err != nil {
				return fmt.Errorf("empty its tables: %w", err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if _, err := n.c.update(ctx, func(s *state) error {
		entry, err := n.subscriberEntry(s)
		if err == nil {
			entry.Cut, entry.Subscriber.Paused, entry.Subscriber.Source = false, false, primary.name
		}
		return err
	}); err != nil {
		return err
	}
	_, err = n.subscribe(ctx, primary)
	return err
}

// dropSubscription forgets the subscription without asking the server it reads
// from, which may be gone.
func dropSubscription(ctx context.Context, conn *pgx.Conn, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_subscription where subname = $1)", name).Scan(&there); err != nil || !there {
		return err
	}
	if err := disable(ctx, conn, name); err != nil {
		return err
	}
	quoted := pgx.Identifier{name}.Sanitize()
	for _, sql := range []string{"alter subscription " + quoted + " set (slot_name = none)", "drop subscription " + quoted} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("drop the old subscription: %w", err)
		}
	}
	return nil
}

// dropOldSlot keeps a former primary that still runs from keeping WAL for us.
func (n *Node) dropOldSlot(ctx context.Context, sub *subscriberState) {
	source, err := n.c.Node(sub.Source)
	if err != nil || source.Role() != RolePrimary || source.runState() != Running {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, oldSlotGrace)
	defer cancel()
	err = source.withConn(ctx, func(conn *pgx.Conn) error { return dropSlots(ctx, conn, sub.Subscription, "") })
	if err != nil {
		n.c.logf("%s keeps the slot of %s: %v", source.name, n.name, err)
	}
}

// Refresh makes the published tables that a subscriber does not have yet, and
// returns once they are copied. Where [Cluster.AddSubscriber] published all
// tables, those made since are published now. Tables that the subscriber has
// are left as they are, also if the primary's have changed.
func (n *Node) Refresh(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.refresh(ctx); err != nil {
		return fmt.Errorf("refresh %s: %w", n.name, err)
	}
	n.c.logf("refreshed %s", n.name)
	return nil
}

func (n *Node) refresh(ctx context.Context) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	entry, err := n.subscriberEntry(n.c.state())
	if err != nil {
		return err
	}
	sub := entry.Subscriber
	primary := n.c.Primary()
	switch {
	case primary == nil || primary.name != sub.Source:
		return fmt.Errorf("it follows %s, which is not the primary: resubscribe it", sub.Source)
	case entry.Cut || sub.Paused:
		return errors.New("its subscription is disabled: heal or resume it first")
	}
	err = primary.withApplication(ctx, func(conn *pgx.Conn) error {
		tables, err := publicationTables(ctx, conn, sub.Publication)
		if err != nil || !sub.All {
			return errors.Join(err, n.copySchema(ctx, conn, tables))
		}
		now, err := chosenTables(ctx, conn, nil)
		if err != nil {
			return err
		}
		// The tables first: a change of one that it lacks stops a subscriber.
		if err := n.copySchema(ctx, conn, now); err != nil {
			return err
		}
		known, err := publishedRoots(ctx, conn, sub.Publication)
		if err != nil {
			return err
		}
		added := slices.DeleteFunc(now, func(id uint32) bool { return slices.Contains(known, id) })
		names, err := tableNames(ctx, conn, added)
		if err != nil {
			return err
		}
		if _, err := identify(ctx, conn, now); err != nil || len(names) == 0 {
			return err
		}
		_, err = conn.Exec(ctx, "alter publication "+pgx.Identifier{sub.Publication}.Sanitize()+" add table only "+strings.Join(names, ", only "))
		return err
	})
	if err != nil {
		return err
	}
	return n.withApplication(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "alter subscription "+pgx.Identifier{sub.Subscription}.Sanitize()+" refresh publication"); err != nil {
			return err
		}
		return n.awaitCopies(ctx, conn, sub.Subscription)
	})
}

// publishedRoots are the tables as the publication names them, partitioned
// ones and not their partitions.
func publishedRoots(ctx context.Context, conn *pgx.Conn, publication string) ([]uint32, error) {
	return tableIDs(ctx, conn, "select r.prrelid from pg_publication_rel as r join pg_publication as p on p.oid = r.prpubid where p.pubname = $1", publication)
}
