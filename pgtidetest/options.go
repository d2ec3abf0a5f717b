package pgtidetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// Environment variables that say which servers tests run on.
const (
	// EnvDSN names an existing cluster for [Options.DSN].
	EnvDSN = "PGTIDE_TEST_DSN"
	// EnvVersion names the major version of PostgreSQL to run, such as 15. The
	// folder of the programs can be named by PGTIDE_PGBIN instead.
	EnvVersion = "PGTIDE_PGVERSION"
	// EnvKeep is how long the database of a failed test is kept. Defaults to
	// [DefaultKeep]; 0 keeps none.
	EnvKeep = "PGTIDE_TEST_KEEP"
	// EnvDir names the folder in which test binaries find their shared clusters,
	// by default one of the user's own in the system's folder for temporary
	// files. Test runs with different folders share nothing.
	EnvDir = keeper.EnvDir
	// EnvLinger is how long the clusters outlive the last test that used one.
	// Defaults to [DefaultLinger].
	EnvLinger = keeper.EnvLinger
	// EnvClusters is how many clusters run at once, which is how many tests do
	// too. Defaults to the number of processors, but at least 2 and at most 16.
	EnvClusters = keeper.EnvClusters
)

// Defaults of [Options] and the environment.
const (
	DefaultReplicas = 2
	DefaultKeep     = 10 * time.Minute
	DefaultLinger   = keeper.DefaultLinger
)

// Options say what [NewWith] makes. The zero value is an empty database on a
// primary with two replicas.
type Options struct {
	// Schema is SQL for the new database: one or more statements, run by its
	// owner before Migrate.
	Schema string
	// Migrate brings a new database up to date, with whatever migrator: dsn leads
	// to its primary, as the database's owner. The databases of tests are copies
	// of its result, so it runs once for each cluster and not for each test. It
	// must not touch anything outside of the database.
	Migrate func(ctx context.Context, dsn string) error
	// Files are what Migrate reads, such as an embed.FS or os.DirFS("migrations").
	// Results are shared between test binaries, and between runs, as long as
	// Schema, Files, Key and the name of the function Migrate are the same. With
	// neither Files nor Key the result of Migrate is used by this process alone.
	Files fs.FS
	// Key stands for what Migrate does beside reading Files, such as a version.
	Key string

	// Replicas is the number of replicas. Zero means [DefaultReplicas], a negative
	// number none. An existing cluster has those it has.
	Replicas int
	// Settings are further settings of the servers. Tests that ask for different
	// ones run on different clusters.
	Settings map[string]string

	// DSN names an existing cluster, as [pgtide.Options.DSN] does, in place of
	// clusters of this package's own; empty means PGTIDE_TEST_DSN. Its role must be
	// allowed to make databases, and for lag on demand it must be a superuser. One
	// test at a time uses it, in all processes together, and begins by ending any
	// pause of replay and any delay set there by ALTER SYSTEM; servers cannot be
	// killed, frozen, cut or promoted.
	DSN string
	// Shared lets tests use the existing cluster at the same time. They cannot
	// have lag on demand, for it would hit the others. It means nothing for the
	// clusters of this package: there each test has one to itself.
	Shared bool

	// DB are the options of the DB. Its nodes are set by this package; Configure
	// and Hooks are kept.
	DB pgtide.Options
	// Address, if set, is asked for the host and port to reach a node at, such as
	// those of a proxy. Only the DB goes there.
	Address func(node, address string) string

	_ struct{} // field names are required
}

// defaults are what Main said.
var defaults Options

// Main runs the tests with o as the options of [New]:
//
//	func TestMain(m *testing.M) {
//		pgtidetest.Main(m, pgtidetest.Options{Migrate: migrate, Files: migrations})
//	}
//
// It does not return. A package that needs no options needs no Main.
func Main(m *testing.M, o Options) {
	defaults = o
	os.Exit(m.Run())
}

func (o Options) validate() error {
	for _, n := range o.DB.Nodes {
		return fmt.Errorf("options: DB names node %q: the nodes are this package's to set", n.Name)
	}
	if o.DB.DSN != "" {
		return errors.New("options: DB has a DSN: the nodes are this package's to set; Options.DSN names an existing cluster")
	}
	if o.Migrate == nil && (o.Files != nil || o.Key != "") {
		return errors.New("options: Files and Key say what Migrate does: set Migrate")
	}
	return nil
}

// spec says what cluster a test needs.
func (o Options) spec() (keeper.Spec, error) {
	s := keeper.Spec{Replicas: o.Replicas, Settings: maps.Clone(o.Settings)}
	switch {
	case s.Replicas == 0:
		s.Replicas = DefaultReplicas
	case s.Replicas < 0:
		s.Replicas = 0
	}
	var err error
	s.BinDir, err = binDir()
	return s, err
}

func keepTime() (time.Duration, error) {
	text := os.Getenv(EnvKeep)
	if text == "" {
		return DefaultKeep, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s=%q is not a time such as 10m", EnvKeep, text)
	}
	return d, nil
}
