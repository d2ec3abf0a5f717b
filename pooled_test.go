package pgtide

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide/internal/topology"
)

// What PgBouncer says, as it says it: all under one code.
func TestJudgePooler(t *testing.T) {
	read := attempt{connected: true, sent: true, broken: true}
	write, handed, refused := read, read, attempt{}
	write.write = true
	handed.handed = true
	used := write
	used.handed = true
	for _, c := range []struct {
		text string
		a    attempt
		want verdict
	}{
		{"query_wait_timeout", read, verdict{next: elsewhere, suspect: true}},
		{"query_wait_timeout", write, verdict{next: elsewhere, suspect: true}},
		{"query_wait_timeout", used, verdict{suspect: true}},
		{"server login has been failing, try again later (server_login_retry)", write, verdict{next: elsewhere, suspect: true}},
		{"server login has been failing, cached error: connect failed (server_login_retry)", refused, verdict{next: elsewhere, suspect: true}},
		{"client_idle_timeout", write, verdict{next: elsewhere, suspect: true}},
		{"server conn crashed?", read, verdict{next: elsewhere, suspect: true}},
		{"server conn crashed?", write, verdict{next: outcomeUnknown, suspect: true}},
		{"server conn crashed?", handed, verdict{suspect: true}},
		{"server conn crashed?", used, verdict{next: outcomeUnknown, suspect: true}},
		{"server conn crashed?", refused, verdict{next: elsewhere, suspect: true}},
		{"database removed", write, verdict{next: outcomeUnknown, suspect: true}},
		{"query timeout", read, verdict{suspect: true}},
		{"query timeout", write, verdict{next: outcomeUnknown, suspect: true}},
		{"no more connections allowed (max_client_conn)", refused, verdict{}},
		{"no such database: shop", refused, verdict{}},
	} {
		err := fmt.Errorf("it: %w", &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: c.text})
		if got := judge(nil, err, c.a); got != c.want {
			t.Errorf("%q of %+v: %+v, want %+v", c.text, c.a, got, c.want)
		}
	}
	// The server's own: the statement is at fault, and was not done.
	err := &pgconn.PgError{Severity: "ERROR", Code: "08P01", Message: "bind message supplies 1 parameters, but prepared statement requires 2"}
	if got := judge(nil, err, attempt{connected: true, sent: true, write: true}); got != (verdict{}) {
		t.Errorf("a protocol violation that the server reports: %+v, want it to be the caller's", got)
	}
}

func TestMendPooler(t *testing.T) {
	for text, want := range map[string]string{
		"unsupported startup parameter: search_path": "ignore_startup_parameters",
		"no such database: shop":                     "add the database",
		"no such user: app":                          "list of users",
		`"trust" authentication failed`:              "list of users",
		"query_wait_timeout":                         "",
	} {
		err := fmt.Errorf("probe: %w", &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: text})
		if got := mend(err); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: %q, want something of %q", text, got, want)
		}
	}
	if got := mend(errors.New("no such database: shop")); got != "" {
		t.Errorf("an error of nobody's: %q", got)
	}
}

func TestChoosesMode(t *testing.T) {
	for dsn, want := range map[string]bool{
		"postgres://app@a/shop": false,
		"postgres://app@a/shop?default_query_exec_mode=cache_statement": true,
		"host=a dbname=shop default_query_exec_mode=exec":               true,
		"host=a dbname='default_query_exec_mode=exec'":                  false,
	} {
		if got := choosesMode(dsn); got != want {
			t.Errorf("%s: %v, want %v", dsn, got, want)
		}
	}
}

func TestShape(t *testing.T) {
	config, err := pgx.ParseConfig("host=a dbname=shop description_cache_capacity=0")
	if err != nil {
		t.Fatal(err)
	}
	var p pooling
	if p.shape(config); config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		t.Errorf("without a pooler the mode becomes %v", config.DefaultQueryExecMode)
	}
	p.found.Store(true)
	if p.shape(config); config.DefaultQueryExecMode != pgx.QueryExecModeCacheDescribe || config.DescriptionCacheCapacity == 0 {
		t.Errorf("with a pooler: mode %v, room for %d descriptions", config.DefaultQueryExecMode, config.DescriptionCacheCapacity)
	}
}

func TestPlaced(t *testing.T) {
	n := &topology.Node{Incarnation: 42}
	for text, want := range map[string]bool{"0/15": true, "0/15@42": true, "0/15@43": false, "0/15@": false} {
		if lsn, ok := placed(text, n); lsn != "0/15" || ok != want {
			t.Errorf("%q: %q, %v, want %v", text, lsn, ok, want)
		}
	}
}
