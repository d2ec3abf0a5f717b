// Package watch looks at servers: it is the only code that probes them. It
// feeds what it sees to a [topology.Tracker] and publishes the views that
// follow.
//
// Each node has one prober with one connection of its own. It probes once per
// interval, sooner when woken, and each millisecond while somebody waits for
// the node. Every probe has a deadline, so that a node that accepts
// connections and then says nothing is noticed after the interval and the
// deadline at most.
package watch
