// Package patroni tests pgtide on a cluster that Patroni keeps: planned
// switchovers, a leader that dies, members that come and go. Its tests start
// etcd and Patroni by themselves, on loopback and without root rights. They run
// on Linux.
package patroni
