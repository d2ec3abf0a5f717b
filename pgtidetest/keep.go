package pgtidetest

import (
	"log"
	"os"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// A test binary that was started with this variable keeps the clusters, and
// never gets to its tests. It has to be an init function: the user's package may
// have no TestMain, and what it initialises itself must not run here.
func init() {
	dir := os.Getenv(keeper.EnvKeep)
	if dir == "" {
		return
	}
	os.Unsetenv(keeper.EnvKeep) // not for those that it starts
	if err := keeper.Serve(dir); err != nil {
		log.Print(err)
		os.Exit(1)
	}
	os.Exit(0)
}
