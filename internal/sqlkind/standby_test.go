package sqlkind

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/sqlkind/sqlcase"
	"github.com/pgtide/pgtide/lab"
)

var update = flag.Bool("update", false, "write testdata/catalog for the server at hand")

// TestMain stops the servers that tests may have started.
func TestMain(m *testing.M) {
	code := m.Run()
	if servers != nil {
		if err := servers.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// standbyEnv tells the worker processes of a fuzz test where its standby is.
const standbyEnv = "PGTIDE_TEST_STANDBY"

var (
	servers *lab.Cluster

	// startServers starts a primary with sqlcase.Schema and the extensions that
	// come with PostgreSQL, and two standbys: one to be left as it is, and one
	// to be ruined.
	startServers = sync.OnceValues(func() (*lab.Cluster, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err := lab.Start(ctx, lab.Options{Replicas: 2})
		if err != nil {
			return nil, err
		}
		servers = c
		conn, err := pgconn.Connect(ctx, c.Primary().SuperDSN())
		if err != nil {
			return nil, err
		}
		defer conn.Close(ctx)
		if err := conn.Exec(ctx, sqlcase.Schema).Close(); err != nil {
			return nil, err
		}
		for _, name := range strings.Fields(extensions) {
			// Small installations come without some of them.
			err := conn.Exec(ctx, `create extension if not exists "`+name+`" cascade`).Close()
			if refusal := new(pgconn.PgError); err != nil && !errors.As(err, &refusal) {
				return nil, err
			}
		}
		// So that the harness sees on after a change of role.
		if err := conn.Exec(ctx, "grant execute on function pg_ls_dir(text) to public").Close(); err != nil {
			return nil, err
		}
		return c, c.WaitCaughtUp(ctx)
	})
)

// extensions are those of PostgreSQL's own that bring functions.
const extensions = `
	adminpack amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn
	earthdistance file_fdw fuzzystrmatch hstore insert_username intagg intarray isn lo ltree
	moddatetime old_snapshot pageinspect pg_buffercache pg_freespacemap pg_logicalinspect
	pg_prewarm pg_stat_statements pg_surgery pg_trgm pg_visibility pg_walinspect pgcrypto
	pgrowlocks pgstattuple plpgsql postgres_fdw refint seg sslinfo tablefunc tcn
	tsm_system_rows tsm_system_time unaccent uuid-ossp xml2`

func start(t testing.TB) *lab.Cluster {
	t.Helper()
	c, err := startServers()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client is a session of the superuser on a standby, whom nothing but recovery
// forbids anything.
type client struct {
	*pgconn.PgConn
	t   testing.TB
	ctx context.Context
}

func connect(t testing.TB, dsn string) *client {
	t.Helper()
	// Cleanups use the session when the test's own context has ended.
	ctx := context.WithoutCancel(t.Context())
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["statement_timeout"] = "2000" // of what a composed query may ask for
	config.RuntimeParams["client_min_messages"] = "error"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(ctx) })
	return &client{conn, t, ctx}
}

// rows returns what a query of the test's own gives, all as text.
func (c *client) rows(sql string) [][]string {
	c.t.Helper()
	results, err := c.Exec(c.ctx, sql).ReadAll()
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	var all [][]string
	for _, r := range results[len(results)-1].Rows {
		row := make([]string, len(r))
		for i, value := range r {
			row[i] = string(value)
		}
		all = append(all, row)
	}
	return all
}

// try runs a statement as a text of its own and returns the SQLSTATE that the
// server refused it with, "" if it did not.
func (c *client) try(sql string) (state, message string) {
	c.t.Helper()
	_, err := c.Exec(c.ctx, sql).ReadAll()
	refusal := refusalOf(c.t, err)
	return refusal.Code, refusal.Message
}

// refusalOf returns what the server said against a statement, which is the zero
// value if it ran. Anything else ends the test.
func refusalOf(t testing.TB, err error) *pgconn.PgError {
	t.Helper()
	refusal := new(pgconn.PgError)
	if err != nil && !errors.As(err, &refusal) || strings.HasPrefix(refusal.Code, "57P") {
		t.Fatal(err)
	}
	return refusal
}

// major is the server's major version.
func (c *client) major() int {
	number, err := strconv.Atoi(c.rows("show server_version_num")[0][0])
	if err != nil {
		c.t.Fatal(err)
	}
	return number / 10000
}
