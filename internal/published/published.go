// Package published says what of a primary's tables a logical subscriber has
// whole. It is pure: somebody else has asked the two servers.
//
// Names are compared without their schemas, as the server folds them: a text does
// not show which schema a name stands for, nor whether it is that of a table or of
// a column. So a name counts as lacking if anything of that name is.
package published

// table is a name with its schema.
type table struct{ schema, name string }

// Offer is what a primary has for subscribers, as of one moment. It must not be
// changed once it is in use.
type Offer struct {
	whole map[string]map[table]string // the shape of each table, by publication
	views map[table]string            // the shape of each view
}

// NewOffer returns an offer of nothing.
func NewOffer() *Offer {
	return &Offer{whole: map[string]map[table]string{}, views: map[table]string{}}
}

// Publish adds a table that a publication publishes whole: all rows, all columns,
// and whatever happens to them. Its shape is what columns and policies it has.
func (o *Offer) Publish(publication, schema, name, shape string) {
	tables := o.whole[publication]
	if tables == nil {
		tables = map[table]string{}
		o.whole[publication] = tables
	}
	tables[table{schema, name}] = shape
}

// Show adds a view.
func (o *Offer) Show(schema, name, shape string) { o.views[table{schema, name}] = shape }

// publishes reports whether one of the publications publishes t in this shape. One
// is enough: what others leave out of t, that one sends.
func (o *Offer) publishes(publications []string, t table, shape string) bool {
	for _, p := range publications {
		if s, ok := o.whole[p][t]; ok && s == shape {
			return true
		}
	}
	return false
}

// Kind is what a relation is, as in pg_class.
type Kind byte

// The kinds that matter here. Every other kind has what no publication sends.
const (
	Table       Kind = 'r'
	Partitioned Kind = 'p'
	View        Kind = 'v'
)

// Relation is a table, view or the like of a subscriber.
type Relation struct {
	OID          uint32
	Schema, Name string
	Kind         Kind
	Shape        string
	// Synced says that it belongs to the subscription and was copied.
	Synced bool
	// Children are its partitions, or what inherits from it.
	Children []uint32
	// Bases are what a view reads. Opaque says that there is more to it: functions
	// of the user's, or the server's own catalogs.
	Bases  []uint32
	Opaque bool
}

// Stock is what a subscriber has, as of one moment. It must not be changed once it
// is in use.
type Stock struct {
	Publications []string // that its subscription is for
	Relations    []Relation
}

// Lacking returns the names under which the stock has something that is not what
// the offer has.
func (s *Stock) Lacking(o *Offer) *Names {
	c := check{stock: s, offer: o, places: map[uint32]int{}, whole: make([]state, len(s.Relations))}
	for i := range s.Relations {
		c.places[s.Relations[i].OID] = i
	}
	n := &Names{lacking: map[string]bool{}}
	for i := range s.Relations {
		if !c.isWhole(i) {
			n.lacking[s.Relations[i].Name] = true
		}
	}
	return n
}

// state is what is known of a relation while all are looked at.
type state uint8

const (
	unasked state = iota
	yes
	no
)

// check looks at each relation once.
type check struct {
	stock  *Stock
	offer  *Offer
	places map[uint32]int // by OID
	whole  []state
}

func (c *check) isWhole(i int) bool {
	if c.whole[i] == unasked {
		c.whole[i] = no // for one that leads back to itself
		if c.look(&c.stock.Relations[i]) {
			c.whole[i] = yes
		}
	}
	return c.whole[i] == yes
}

func (c *check) look(r *Relation) bool {
	t := table{r.Schema, r.Name}
	sent := r.Synced && c.offer.publishes(c.stock.Publications, t, r.Shape)
	switch r.Kind {
	case Table:
		return sent && c.all(r.Children)
	case Partitioned:
		// By its root it is sent with all that its partitions hold.
		return sent || len(r.Children) > 0 && c.all(r.Children)
	case View:
		shape, ok := c.offer.views[t]
		return ok && shape == r.Shape && !r.Opaque && c.all(r.Bases)
	}
	return false
}

// all reports whether all of these are whole.
func (c *check) all(oids []uint32) bool {
	for _, oid := range oids {
		if i, ok := c.places[oid]; !ok || !c.isWhole(i) {
			return false
		}
	}
	return true
}

// Names are what a subscriber lacks. Nil lacks everything.
type Names struct{ lacking map[string]bool }

// NewNames returns names that are lacking.
func NewNames(lacking ...string) *Names {
	n := &Names{lacking: map[string]bool{}}
	for _, name := range lacking {
		n.lacking[name] = true
	}
	return n
}

// Lacks returns the first of the names that is lacking.
func (n *Names) Lacks(names []string) (string, bool) {
	for _, name := range names {
		if n.lacking[name] {
			return name, true
		}
	}
	return "", false
}

// Catalogs are what the subscribers of a view lack, by their places in it.
type Catalogs []*Names

// Fit returns the subscribers that lack none of the names, as a bit mask.
func (c *Catalogs) Fit(names []string) (set uint64) {
	if c == nil {
		return 0
	}
	for i, n := range *c {
		if n == nil {
			continue
		}
		if _, lacks := n.Lacks(names); !lacks {
			set |= 1 << uint(i)
		}
	}
	return set
}

// Len is for how many places c is.
func (c *Catalogs) Len() int {
	if c == nil {
		return 0
	}
	return len(*c)
}

// Lacks returns the first of the names that the subscriber in a place lacks, no name
// if it is not known what it has.
func (c *Catalogs) Lacks(place int, names []string) (name string, lacks bool) {
	if c == nil || place >= len(*c) || (*c)[place] == nil {
		return "", true
	}
	return (*c)[place].Lacks(names)
}
