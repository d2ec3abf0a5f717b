package pgtideredis

import "testing"

// StartServer starts a Redis and returns its socket, for the tests that use this
// package from outside.
func StartServer(t *testing.T) string { return startServer(t).socket }
