package pgtidetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/pgtidetest/internal/keeper"
)

// process tells the templates of this process from those of others.
var process = strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)

// templateName names the database that tests with these options begin as. Empty
// means that they begin empty.
func (o Options) templateName() (string, error) {
	if o.Schema == "" && o.Migrate == nil {
		return "", nil
	}
	h := sha256.New()
	field := func(text string) { fmt.Fprintf(h, "%d:%s,", len(text), text) }
	field(o.Schema)
	if o.Migrate != nil {
		// Two functions may make different things of the same files.
		field(runtime.FuncForPC(reflect.ValueOf(o.Migrate).Pointer()).Name())
		field(o.Key)
		if o.Files == nil && o.Key == "" {
			field(process)
		}
	}
	if o.Files != nil {
		if err := hashFiles(h, o.Files); err != nil {
			return "", fmt.Errorf("options: read Files: %w", err)
		}
	}
	return keeper.TemplatePrefix + hex.EncodeToString(h.Sum(nil))[:20], nil
}

func hashFiles(h io.Writer, files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err == nil {
			fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(text), text)
		}
		return err
	})
}

// makeTemplate makes the template if the cluster has none. It gets its name
// last, so that one that was not finished is never used.
func (c *Tide) makeTemplate(ctx context.Context, name string) error {
	conn, err := c.servers.conn(ctx, c.source.Cluster().Primary)
	if err != nil {
		return err
	}
	// On an existing cluster others may be about to make the same one.
	if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock(hashtext($1))", name)
	var found bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&found); err != nil || found {
		return err
	}
	unfinished := name + keeper.UnfinishedSuffix
	if err := c.dropDatabase(ctx, conn, unfinished); err != nil { // of a killed process
		return err
	}
	if err := c.fillTemplate(ctx, conn, unfinished); err != nil {
		if errDrop := c.dropDatabase(context.WithoutCancel(ctx), conn, unfinished); errDrop != nil {
			c.t.Logf("pgtidetest: the unfinished template stays until the next attempt: %v", errDrop)
		}
		return err
	}
	for _, statement := range []string{
		"alter database " + quote(unfinished) + " allow_connections false",
		"comment on database " + quote(unfinished) + " is '" + time.Now().UTC().Format(time.RFC3339) + "'",
		"alter database " + quote(unfinished) + " rename to " + quote(name),
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (c *Tide) fillTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "create database "+quote(name)+c.owner()); err != nil {
		return err
	}
	dsn, err := c.dsn(c.source.Cluster().Primary, name)
	if err != nil {
		return err
	}
	if c.options.Schema != "" {
		if err := runScript(ctx, dsn, c.options.Schema); err != nil {
			return fmt.Errorf("run Schema: %w", err)
		}
	}
	if c.options.Migrate != nil {
		if err := c.options.Migrate(ctx, dsn); err != nil {
			return fmt.Errorf("run Migrate: %w", err)
		}
	}
	// A connection that Migrate left open would keep the template from being copied.
	_, err = conn.Exec(ctx, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", name)
	return err
}

func runScript(ctx context.Context, dsn, script string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.PgConn().Exec(ctx, script).ReadAll()
	return err
}

// makeDatabase makes the test's own database and returns once every replica has it.
func (c *Tide) makeDatabase(ctx context.Context, template string) error {
	conn, err := c.servers.conn(ctx, c.source.Cluster().Primary)
	if err != nil {
		return err
	}
	statement := "create database " + quote(c.database) + c.owner()
	if template != "" {
		statement += " template " + quote(template)
	}
	// A copy of files is three times as fast as one through the WAL; older
	// servers know no other.
	if serverVersion(conn) >= 15 {
		statement += " strategy file_copy"
	}
	if _, err := conn.Exec(ctx, statement); err != nil {
		return err
	}
	return c.awaitReplicas(ctx)
}

func (c *Tide) dropDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "drop database if exists "+quote(name)+" with (force)")
	return err
}

// owner gives a new database to the application's role, if that is not the one
// that makes it.
func (c *Tide) owner() string {
	if role := c.source.Cluster().AppRole; role != "" {
		return " owner " + quote(role)
	}
	return ""
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func serverVersion(conn *pgx.Conn) int {
	text := conn.PgConn().ParameterStatus("server_version")
	end := 0
	for end < len(text) && '0' <= text[end] && text[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(text[:end]) // 0 asks for nothing new
	return n
}
