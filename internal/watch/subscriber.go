package watch

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/internal/published"
	"github.com/pgtide/pgtide/internal/topology"
)

const (
	// reread is how old what is known of a server's tables may be although nothing
	// tells of a change: not every one shows in what each probe asks for.
	reread = 10 * time.Second
	// rereadShare is how many times as long as it takes a server to say it all it is
	// left alone, when that is longer.
	rereadShare = 100
)

// ErrPooledSubscriber says that a subscriber is behind a pooler, which would not
// keep its connections read-only.
var ErrPooledSubscriber = errors.New("a pooler was found in front of the subscriber: name the server itself")

// tables is what a prober knows of its server's tables.
type tables struct {
	mark   string // that changes with them
	due    time.Time
	digest uint64 // of what was read last
	offer  *published.Offer
	stock  *published.Stock
}

// seedTables makes the digests of this process differ from any other's.
var seedTables = maphash.MakeSeed()

// old reports whether the tables must be read, when the server's mark is this.
func (t *tables) old(mark string) bool {
	return t.offer == nil && t.stock == nil || t.mark != mark || time.Now().After(t.due)
}

// read calls do, which reads them, and returns whether they are other than before.
func (t *tables) read(mark string, do func(digest *maphash.Hash) error) (changed bool, err error) {
	var digest maphash.Hash
	digest.SetSeed(seedTables)
	began := time.Now()
	if err := do(&digest); err != nil {
		return false, err
	}
	sum := digest.Sum64()
	changed = sum != t.digest || t.offer == nil && t.stock == nil
	t.mark, t.digest = mark, sum
	t.due = time.Now().Add(max(reread, rereadShare*time.Since(began)))
	return changed, nil
}

// lookSubscriber is look for a subscriber. The position comes first: what is read
// of its tables after that was so at the position, or is newer.
func (p *prober) lookSubscriber(ctx context.Context, o *topology.Observation) error {
	query, name := subscriberQuery, p.node.Subscription
	if p.mayOrigin {
		query = subscriberOriginQuery
	}
	var recovery bool
	var oid, worker *int64
	var enabled *bool
	var slot, applied, received, commit *string
	var publications []string
	err := p.conn.QueryRow(ctx, query, name).Scan(&recovery, &oid, &enabled, &slot, &publications, &worker,
		&received, &applied, &commit, &o.Incarnation, &o.Version)
	switch {
	case err != nil:
		return err
	case oid == nil:
		return fmt.Errorf("there is no subscription %q in its database %q: create it, or mend Node.Subscription", name, p.conn.Config().Database)
	}
	o.Role = topology.Subscriber
	f := &topology.Feed{OID: uint32(*oid)}
	o.Feed = f
	for _, l := range []struct {
		text *string
		lsn  *topology.LSN
	}{{applied, &f.Applied}, {received, &f.Received}, {commit, &f.Commit}} {
		if l.text == nil {
			continue
		}
		if *l.lsn, err = topology.ParseLSN(*l.text); err != nil {
			return err
		}
	}
	if worker != nil {
		f.Worker = int32(*worker)
	}
	if slot != nil {
		f.Slot = *slot
	}
	switch {
	case recovery:
		f.Fault = errors.New("it is in recovery: name the server that the subscription runs on")
	case !*enabled:
		f.Fault = fmt.Errorf("its subscription %q is disabled: alter subscription ... enable", name)
	case f.Slot == "":
		f.Fault = fmt.Errorf("its subscription %q has no slot", name)
	case f.Worker == 0:
		f.Fault = fmt.Errorf("its subscription %q is not running: the server's log says why", name)
	}
	f.Stock, err = p.stock(ctx, *oid, publications)
	return err
}

// stock returns what the subscriber has. It is the same as before if nothing of it
// has changed.
func (p *prober) stock(ctx context.Context, oid int64, publications []string) (*published.Stock, error) {
	var mark string
	if err := p.conn.QueryRow(ctx, stockMarkQuery, oid).Scan(&mark); err != nil {
		return nil, err
	}
	mark = fmt.Sprint(mark, publications, oid)
	if !p.tables.old(mark) {
		return p.tables.stock, nil
	}
	next := &published.Stock{Publications: publications}
	changed, err := p.tables.read(mark, func(digest *maphash.Hash) error {
		digest.WriteString(fmt.Sprint(publications))
		rows, err := p.conn.Query(ctx, stockQuery, oid)
		if err != nil {
			return err
		}
		var r published.Relation
		var id int64
		var kind string
		var children, bases []int64
		_, err = pgx.ForEachRow(rows, []any{&id, &r.Schema, &r.Name, &kind, &r.Shape, &r.Synced, &children, &bases, &r.Opaque}, func() error {
			fmt.Fprintln(digest, id, r.Schema, r.Name, kind, r.Shape, r.Synced, children, bases, r.Opaque)
			r.OID, r.Kind, r.Children, r.Bases = uint32(id), published.Kind(kind[0]), oids(children), oids(bases)
			next.Relations = append(next.Relations, r)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read its tables: %w", err)
	}
	if changed {
		p.tables.stock = next
	}
	return p.tables.stock, nil
}

func oids(ids []int64) []uint32 {
	var all []uint32
	for _, id := range ids {
		all = append(all, uint32(id))
	}
	return all
}

// lookOut fills in what a primary sends to subscribers, while there are any.
func (p *prober) lookOut(ctx context.Context, o *topology.Observation) {
	if p.watcher.subscribers.Load() == 0 || time.Now().Before(p.mute) {
		return
	}
	out, err := p.outlet(ctx, o)
	if err != nil {
		// The primary itself is well, and must not be asked for this at each probe.
		p.mute = time.Now().Add(reread)
		if p.conn.IsClosed() {
			p.conn = nil
		}
		return
	}
	o.Outlet = out
}

// outlet asks a primary what it sends to subscribers, after its position: so it is
// of that position, or newer. An error says nothing of the primary itself.
func (p *prober) outlet(ctx context.Context, o *topology.Observation) (*topology.Outlet, error) {
	var mark string
	var slots, confirmed []string
	var processes []int32
	namespaces := "''"
	if o.Version >= 150000 {
		namespaces = offerNamespaces
	}
	var run int64
	if err := p.conn.QueryRow(ctx, outletQuery(namespaces), p.mode()).Scan(&slots, &processes, &confirmed, &mark, &run); err != nil {
		return nil, err
	}
	if run != o.Incarnation {
		return nil, errOtherRun
	}
	out := &topology.Outlet{Slots: map[string]topology.Slot{}}
	for i, slot := range slots {
		lsn, err := topology.ParseLSN(confirmed[i])
		if err != nil {
			return nil, err
		}
		out.Slots[slot] = topology.Slot{Process: processes[i], Confirmed: lsn}
	}
	if p.tables.old(mark) {
		next := published.NewOffer()
		changed, err := p.tables.read(mark, func(digest *maphash.Hash) error { return p.readOffer(ctx, o, next, digest) })
		if err != nil {
			return nil, fmt.Errorf("read its publications: %w", err)
		}
		if changed {
			p.tables.offer = next
		}
	}
	out.Offer = p.tables.offer
	return out, nil
}

// errOtherRun says that a pooler led to another server, or another run of it, than
// the one that the observation is of.
var errOtherRun = errors.New("another run of the server has answered")

func (p *prober) readOffer(ctx context.Context, o *topology.Observation, offer *published.Offer, digest *maphash.Hash) error {
	partly := "false"
	if o.Version >= 150000 {
		partly = offerPartly
	}
	rows, err := p.conn.Query(ctx, offerQuery(partly), p.mode())
	if err != nil {
		return err
	}
	var publication *string
	var schema, name, shape string
	var run int64
	_, err = pgx.ForEachRow(rows, []any{&publication, &schema, &name, &shape, &run}, func() error {
		if run != o.Incarnation {
			return errOtherRun
		}
		if publication == nil {
			fmt.Fprintln(digest, schema, name, shape)
			offer.Show(schema, name, shape)
			return nil
		}
		fmt.Fprintln(digest, *publication, schema, name, shape)
		offer.Publish(*publication, schema, name, shape)
		return nil
	})
	return err
}
