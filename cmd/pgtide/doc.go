// Command pgtide shows, tries and checks routing on real PostgreSQL clusters.
//
//	pgtide demo                   what replicas do to reads, and what pgtide makes of it
//	pgtide lab up                 a primary and two replicas, on this machine
//	pgtide lab delay 500ms        the replicas apply half a second late
//	pgtide lab lag                how late they are, measured
//	pgtide lab down --delete      as if nothing had been
//
// pgtide help COMMAND and pgtide COMMAND --help describe every subcommand.
//
// The exit code is 0 on success, 1 if something went wrong and 2 if the command
// line was not understood; pgtide lab psql passes psql's own code on. Results go
// to standard output, progress and errors to standard error. The first Ctrl-C
// ends a command in good order, the second one at once.
//
// Each subcommand is a thin front over a package: main is a shell around run, so
// that everything the command does can be tested without starting it.
package main
