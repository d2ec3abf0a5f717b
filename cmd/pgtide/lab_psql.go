package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/lab"
)

func (l *labCommand) newPsql() *cobra.Command {
	var super bool
	cmd := &cobra.Command{
		Use:   "psql [node] [-- psql arguments]",
		Short: "run psql on a node",
		Long: `Psql runs psql on a node, the primary if none is named, as the application's role.
What follows -- is handed to psql, and psql's exit code is passed on. It is the
psql of the server's own installation, or else the one in PATH; if there is
neither, the error shows the URL, with its password, to connect by other means.`,
		Example: `  pgtide lab psql
  pgtide lab psql node2 -- -c 'select pg_last_wal_replay_lsn()'
  pgtide lab psql --super < schema.sql`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				own = dash
			}
			if own > 1 {
				return misuse(cmd, "unexpected argument %q: what is meant for psql follows --", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			node := ""
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				node, args = args[0], args[1:]
			}
			c, err := l.open(cmd.Context())
			if err != nil {
				return err
			}
			dsn, bin, err := l.lookAt(cmd.Context(), c, node, super)
			// psql may run for hours: the handle is not held meanwhile.
			if err = errors.Join(err, c.Detach()); err != nil {
				return err
			}
			psql, err := findPsql(bin)
			if err != nil {
				return withHint(err, "install a PostgreSQL client, or connect by other means to %s", dsn)
			}
			return l.runPsql(cmd.Context(), psql, dsn, args)
		},
	}
	cmd.Flags().BoolVar(&super, "super", false, "as the superuser")
	return cmd
}

// lookAt returns where to connect and the folder of the server's own programs,
// if it tells.
func (l *labCommand) lookAt(ctx context.Context, c *lab.Cluster, name string, super bool) (dsn, bin string, err error) {
	n := c.Primary()
	if name != "" {
		if n, err = c.Node(name); err != nil {
			return "", "", err
		}
	}
	if n == nil {
		return "", "", errors.New("the cluster has no primary: name a node")
	}
	status, err := c.Status(ctx)
	if err != nil {
		return "", "", err
	}
	for _, s := range status.Nodes {
		if s.Name == n.Name() && s.State == lab.Stopped {
			return "", "", withHint(fmt.Errorf("%s is stopped", n.Name()), "%s", l.again("start "+n.Name()))
		}
		if s.Name == n.Name() && s.State == lab.Frozen {
			return "", "", withHint(fmt.Errorf("%s is frozen", n.Name()), "%s", l.again("thaw "+n.Name()))
		}
	}
	dsn = n.DSN()
	if super {
		dsn = n.SuperDSN()
	}
	return dsn, serverPrograms(ctx, n.SuperDSN()), nil
}

// serverPrograms asks a server for the folder of its programs.
func serverPrograms(ctx context.Context, dsn string) (dir string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "" // psql itself will say what is wrong
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "select setting from pg_config where name = 'BINDIR'").Scan(&dir); err != nil {
		return ""
	}
	return dir
}

// findPsql looks in the folder first: that psql fits the server best.
func findPsql(bin string) (string, error) {
	name := "psql"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if bin != "" {
		if path, err := exec.LookPath(filepath.Join(bin, name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find psql: %w", err)
	}
	return path, nil
}

// runPsql hands the terminal to psql until it ends.
func (l *labCommand) runPsql(ctx context.Context, psql, dsn string, args []string) error {
	env, err := psqlEnv(os.Environ(), dsn)
	if err != nil {
		return err
	}
	// On a terminal Ctrl-C reaches psql too and is its to handle: it ends a query
	// there, not the session. Other signals reach only us.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	cmd := exec.Command(psql, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = l.in, l.out, l.err
	cmd.Env = env
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run psql: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
				return &statusError{exit.ExitCode()}
			}
			if err != nil {
				return fmt.Errorf("run psql: %w", err)
			}
			return nil
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				cmd.Process.Signal(sig)
			}
		case <-done:
			done = nil
			// A signal ends this context too; any other end is meant for psql.
			if cause := context.Cause(ctx); cause == context.Canceled || cause == context.DeadlineExceeded {
				cmd.Process.Kill()
			}
		}
	}
}

// psqlEnv turns the URL into environment variables, as arguments, with the
// password among them, can be read by every user of the machine.
func psqlEnv(env []string, dsn string) ([]string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("run psql: %w", err)
	}
	password, _ := u.User.Password()
	own := map[string]string{
		"PGHOST": u.Hostname(), "PGPORT": u.Port(), "PGUSER": u.User.Username(), "PGPASSWORD": password,
		"PGDATABASE": strings.TrimPrefix(u.Path, "/"), "PGSSLMODE": u.Query().Get("sslmode"), "PGCONNECT_TIMEOUT": "10",
		"PGHOSTADDR": "", "PGSERVICE": "", "PGTARGETSESSIONATTRS": "", // these would lead elsewhere
	}
	var result []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if _, ours := own[name]; !ours {
			result = append(result, entry)
		}
	}
	for name, value := range own {
		if value != "" {
			result = append(result, name+"="+value)
		}
	}
	return result, nil
}
