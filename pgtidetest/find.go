package pgtidetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Run runs f twice, each time on a new database with replicas of its own: first
// with all replicas frozen, as if they lagged for ever, and then with replicas that
// have everything before each read. It fails the test with the statement, file and
// line of each stale read: one that a replica served in the first run although it
// lacked what f had written before, or whose rows were others in the second.
//
//	func TestOrders(t *testing.T) {
//		pgtidetest.Run(t, func(t testing.TB, tide *pgtidetest.Tide) {
//			orders := openOrders(t, tide.DSN(tide.Primary()), tide.DSN(tide.Replicas()[0]))
//			orders.Place("tea")
//			orders.List()
//		})
//	}
//
// Every statement counts that reaches the servers by [Tide.DSN] or the [Tide]'s DB,
// with whatever pool, library and driver. f gets a test of its own: what it fails
// with is told by Run, and only what fails in both runs is f's own mistake.
//
// What f does to begin with, such as adding rows that the code under test will
// read, is let through to the frozen replicas by [Tide.Step]. Other ways to change
// their lag are not for f.
//
// See [Finder] for how it is done and what it does not see.
func Run(t testing.TB, f func(t testing.TB, tide *Tide)) {
	t.Helper()
	Finder{}.Run(t, f)
}

// Finder finds stale reads. The zero value does what [Run] and [Handler] do.
//
// Statements are seen on the wire: [Tide.DSN] and the Tide's DB lead through a
// relay on loopback to each node. A read is stale by what its replica says: it had
// not replayed the WAL position that the primary had when the write had been
// committed, and the author of the write had been told so before the read was
// sent. All of f counts as one reader, whatever its goroutines, connections and
// sessions; what may be stale on purpose is for Accept to say.
//
// File and line are those of the innermost function of the program on the stack of
// the goroutine that waits for the server. If several goroutines wait and it cannot
// be told whose the statement is, all their lines are named. Statements of other
// processes have none.
//
// Rows are compared as a set, for each statement with the one of the same text and
// arguments in the other run. Of times, dates, UUIDs, transaction numbers and LSNs only
// whether they are null is compared. They are compared only if something had been
// sent to the primary before that may have written, such as a function in a SELECT.
// Statements that ask the server about itself, such as "select 1" or those of
// pgtide's probes, are not reads.
//
// The first 100000 statements are looked at.
//
// The finder cannot look into encrypted connections: to relays it answers that
// there is no TLS, so a DSN must not require it.
type Finder struct {
	// Options are those of the databases; nil means what [Main] said.
	Options *Options
	// Accept, if set, is asked for each finding; true leaves it out.
	Accept func(Finding) bool

	_ struct{} // field names are required
}

// Finding is a stale read.
type Finding struct {
	// SQL is the text of the read, and Node the replica that served it.
	SQL, Node string
	// File and Line are the place in the program that made it; empty if that is
	// not known. Stack holds it as file:line, and behind it the functions that
	// called it. Caller is the same in words.
	File   string
	Line   int
	Stack  []string
	Caller string
	// Request is what [Handler] sent at the time, such as "GET /orders".
	Request string
	// Write is the write that it came after, made at WriteCaller; empty if none
	// was seen, and the rows alone tell.
	Write, WriteCaller string
	// Frozen and Fresh say what the read saw in the two runs, such as "0 rows".
	// Fresh is empty if the second run made no such read.
	Frozen, Fresh string
	// Differs says that the read saw something else in the second run. If it did
	// not, it was stale and did no harm this time.
	Differs bool
	// Count is how often this line made such a read.
	Count int
}

// String is some lines for the output of a test.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: stale read from %s", f.Caller, f.Node)
	if f.Request != "" {
		fmt.Fprintf(&b, " in %s", f.Request)
	}
	if f.Count > 1 {
		fmt.Fprintf(&b, ", %d times", f.Count)
	}
	fmt.Fprintf(&b, "\n\t%s", short(f.SQL))
	if f.Write != "" {
		fmt.Fprintf(&b, "\n\tafter the write at %s\n\t%s", f.WriteCaller, short(f.Write))
	}
	switch {
	case f.Fresh == "":
		fmt.Fprintf(&b, "\n\twith frozen replicas %s; with fresh ones it is not made", f.Frozen)
	case !f.Differs:
		fmt.Fprintf(&b, "\n\t%s, by luck the same as with fresh replicas", f.Frozen)
	case f.Frozen == f.Fresh:
		fmt.Fprintf(&b, "\n\t%s, with other values than with fresh replicas", f.Frozen)
	default:
		fmt.Fprintf(&b, "\n\twith frozen replicas %s, with fresh ones %s", f.Frozen, f.Fresh)
	}
	return b.String()
}

// judge compares the two runs.
func judge(frozen, fresh []*statement) []Finding {
	counterparts := pair(frozen, fresh)
	var found []Finding
	for _, s := range frozen {
		if !s.replica || !s.reads() {
			continue
		}
		other := counterparts[s]
		differs := other != nil && !s.same(other)
		if !s.behind && !(s.unsure && differs) {
			continue
		}
		f := Finding{
			SQL: s.text, Node: s.node, Caller: sites(s.callers), Request: s.request.name,
			Frozen: s.outcome(), Differs: differs, Count: 1,
		}
		if len(s.callers) == 1 {
			f.File, f.Line = s.callers[0].split()
			f.Stack = s.callers[0].files
		}
		if s.behind {
			f.Write, f.WriteCaller = s.after.text, sites(s.after.callers)
		}
		if other != nil {
			f.Fresh = other.outcome()
		}
		i := slices.IndexFunc(found, func(g Finding) bool {
			return slices.Equal(g.Stack, f.Stack) && g.Caller == f.Caller && g.SQL == f.SQL && g.Request == f.Request
		})
		switch {
		case i < 0:
			found = append(found, f)
		case f.Differs && !found[i].Differs:
			f.Count += found[i].Count
			found[i] = f
		default:
			found[i].Count++
		}
	}
	return found
}

// pair finds for each statement of one run that of the other: the same of the same
// request in turn, with the same arguments if there is one.
func pair(frozen, fresh []*statement) map[*statement]*statement {
	type key struct {
		request int
		text    string
		args    uint64
	}
	pairs := map[*statement]*statement{}
	taken := map[*statement]bool{}
	for _, of := range []func(*statement) key{
		func(s *statement) key { return key{s.request.n, s.text, cmp.Or(s.args, 1)} },
		func(s *statement) key { return key{s.request.n, s.text, 0} }, // ids may be generated
	} {
		waiting := map[key][]*statement{}
		for _, s := range fresh {
			if !taken[s] {
				waiting[of(s)] = append(waiting[of(s)], s)
			}
		}
		for _, s := range frozen {
			if k := of(s); pairs[s] == nil && len(waiting[k]) > 0 {
				pairs[s], waiting[k] = waiting[k][0], waiting[k][1:]
				taken[pairs[s]] = true
			}
		}
	}
	return pairs
}
