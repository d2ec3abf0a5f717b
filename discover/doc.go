// Package discover finds the nodes of a cluster for [pgtide.Options].Discover,
// so that they can come and go while a program runs:
//
//   - [DNS]: one node for each address of a host name, such as a headless
//     service of Kubernetes;
//   - [SRV]: one node for each SRV record, such as those of Consul;
//   - [Standbys]: the primary itself says who follows it;
//   - [Patroni]: the REST API of Patroni says who is in the cluster.
//
// None of them says who is the primary: pgtide asks each node that. None keeps
// anything running between two calls, and all are safe for concurrent use.
//
// # Connection strings
//
// Each has a DSN, as [pgtide.Options].DSN in form: a URL or keywords. It holds
// for all nodes, which differ in host and port alone: user, password, database
// and TLS are the same everywhere. What it leaves open comes from where pgx looks
// for it: the PG variables of the environment, ~/.pgpass. Errors quote nothing of
// it.
//
// # Nodes
//
// Each has a function Map, to give nodes their Groups, Zone, Weight or another
// DSN, or to leave some out. It is called by Discover, at least once for each node
// of each answer, and must say the same of the same node each time: one with
// another name, DSN, group, zone or weight is another node, which leaves and joins.
//
// An answer that names no node, the same node twice, or more than
// [pgtide.MaxNodes] is an error. pgtide then keeps the nodes that it has.
package discover
