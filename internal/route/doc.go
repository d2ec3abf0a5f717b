// Package route decides where a call goes: a pure function of a view of the
// cluster, a request and a policy. It reads no clock, does no I/O, takes no
// lock and allocates nothing, so that the same code answers a live call, a
// test and a simulation.
package route
