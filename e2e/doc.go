// Package e2e tests pgtide as a whole on real replicating clusters: what an
// application sees while replicas lag, links break and primaries change.
// Its files are tests; nothing imports it.
package e2e
