package pgtidetest

import (
	"context"
	"testing"
)

// Front is a way to the servers that promises what pgtide does: a pool, an ORM on
// top of one, a proxy. An adapter of some twenty lines puts it before [Conformance].
// It is used by many goroutines at once.
type Front interface {
	Statements
	// Session returns a context of a new session, which must see what token stands
	// for if that is not empty. All four session guarantees are expected of it.
	Session(ctx context.Context, token string) (context.Context, error)
	// Token returns what the session of ctx must see, as text for another process.
	Token(ctx context.Context) (string, error)
	// Tx runs f in a transaction of the session of ctx, commits it if f returns nil,
	// and otherwise rolls it back and returns f's error.
	Tx(ctx context.Context, readOnly bool, f func(ctx context.Context, tx Statements) error) error
}

// Statements run SQL with parameters such as $1, all of them strings.
type Statements interface {
	Exec(ctx context.Context, sql string, args ...any) error
	// Query returns the rows, each value as text.
	Query(ctx context.Context, sql string, args ...any) ([][]string, error)
}

// Conformance holds a front to the promises of pgtide, each in a subtest on a
// database of its own: the session guarantees on replicas that lag, where reads and
// writes go, what transactions and errors are. open opens the front on the database,
// by [Tide.DSN] or the [Tide]'s DB, and is called once for each process of the
// application that a check needs.
//
//	func TestConformance(t *testing.T) {
//		pgtidetest.Conformance(t, func(t testing.TB, tide *pgtidetest.Tide) pgtidetest.Front {
//			return front{tide.DB}
//		})
//	}
//
// Where statements go is seen on the wire, so fronts are asked for nothing but what
// they are for. The options of the databases are those of [Main], but for the
// schema.
func Conformance(t *testing.T, open func(t testing.TB, tide *Tide) Front) {
	t.Helper()
	for _, c := range conformanceChecks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open)
		})
	}
}

// conformanceSchema is what the checks work on.
const conformanceSchema = `
create table conformance (id text primary key);
create table conformance_log (id text);
create function conformance_write(id text) returns text language sql as
	$$ insert into conformance values (id) returning id $$;
`

// conformanceCheck is one promise.
type conformanceCheck struct {
	name string
	// promise is what a front that fails the check does not keep.
	promise string
	check   func(c *conformity)
}

func (c conformanceCheck) run(t testing.TB, open func(t testing.TB, tide *Tide) Front) {
	t.Helper()
	w := newWitness(false)
	options := defaults
	options.Schema, options.Migrate, options.Files, options.Key = conformanceSchema, nil, nil, ""
	tide := NewWith(t, w.attach(t, options))
	tide.relays = w.relays
	w.start(tide.source.Cluster().Nodes)
	defer w.stop()
	defer func() {
		if t.Failed() {
			t.Logf("pgtidetest: not kept: %s; %s", c.promise, w)
		}
	}()
	c.check(&conformity{TB: t, tide: tide, witness: w, open: open})
}

// conformity is a check that runs.
type conformity struct {
	testing.TB
	tide    *Tide
	witness *witness
	open    func(t testing.TB, tide *Tide) Front
}

// front opens the front as one more process.
func (c *conformity) front() *member {
	c.Helper()
	return &member{c, c.open(c.TB, c.tide)}
}
