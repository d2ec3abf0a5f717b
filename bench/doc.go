// Command bench measures pgtide against the plain pool it replaces, both in
// one run on one machine, and reports ratios: absolute times differ between
// machines, ratios hold.
package main
