package pgtidesql_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidesql"
)

const leftovers = `
	select (select count(*) from pg_settings where source = 'session' and name = 'work_mem')
		+ (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')
		+ (select count(*) from pg_listening_channels()),
		pg_backend_pid()`

// leaving runs a text in each way there is.
var leaving = map[string]func(ctx context.Context, db *sql.DB, text string) error{
	"DB.Exec": func(ctx context.Context, db *sql.DB, text string) error {
		_, err := db.ExecContext(ctx, text)
		return err
	},
	"Stmt.Exec": func(ctx context.Context, db *sql.DB, text string) error {
		stmt, err := db.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx)
		return err
	},
	"Conn.Exec": func(ctx context.Context, db *sql.DB, text string) error {
		return onConn(ctx, db, func(c *sql.Conn) error {
			_, err := c.ExecContext(ctx, text)
			return err
		})
	},
	"Conn.Raw": func(ctx context.Context, db *sql.DB, text string) error {
		return onConn(ctx, db, physical(ctx, text))
	},
	"Tx": func(ctx context.Context, db *sql.DB, text string) error {
		return inTx(ctx, db, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		})
	},
	"Tx, prepared": func(ctx context.Context, db *sql.DB, text string) error {
		return inTx(ctx, db, func(tx *sql.Tx) error {
			stmt, err := tx.PrepareContext(ctx, text)
			if err != nil {
				return err
			}
			_, err = stmt.ExecContext(ctx)
			return err
		})
	},
	"Tx and Conn.Raw": func(ctx context.Context, db *sql.DB, text string) error {
		return onConn(ctx, db, func(c *sql.Conn) error {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if err := physical(ctx, text)(c); err != nil {
				return err
			}
			return tx.Commit()
		})
	},
}

func onConn(ctx context.Context, db *sql.DB, f func(*sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func physical(ctx context.Context, text string) func(*sql.Conn) error {
	return func(c *sql.Conn) error {
		return c.Raw(func(c any) error {
			return c.(*pgtidesql.Conn).Physical(ctx, func(p *pgx.Conn) error {
				_, err := p.Exec(ctx, text)
				return err
			})
		})
	}
}

func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func TestNothingLeaksToTheNextUser(t *testing.T) {
	o := pgtide.Options{MaxStaleness: -1, Configure: func(_ string, config *pgxpool.Config) error {
		config.MaxConns = 1
		return nil
	}}
	for _, n := range paused.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	db, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sqldb := pgtidesql.Open(db)
	defer sqldb.Close()
	ctx := pgtide.OnPrimary(t.Context())
	var n, before, after int
	for way, run := range leaving {
		for _, text := range []string{"set work_mem = '1MB'", "select pg_advisory_lock(4711)", "listen leftover"} {
			if err := run(ctx, sqldb, text); err != nil {
				t.Errorf("%s of %q: %v", way, text, err)
			}
			if err := sqldb.QueryRowContext(ctx, leftovers).Scan(&n, &before); err != nil || n != 0 {
				t.Errorf("%s of %q leaves %d things to the next user (%v)", way, text, n, err)
			}
		}
		if way == "Conn.Raw" || way == "Tx and Conn.Raw" {
			continue // what is done there is not seen
		}
		for _, text := range []string{"select 1", "set local work_mem = '1MB'", "select pg_advisory_xact_lock(4711)"} {
			if err := run(ctx, sqldb, text); err != nil {
				t.Errorf("%s of %q: %v", way, text, err)
			}
			if err := sqldb.QueryRowContext(ctx, leftovers).Scan(&n, &after); err != nil || n != 0 || after != before {
				t.Errorf("%s of %q closed the connection, or left %d things in it (%v)", way, text, n, err)
			}
			before = after
		}
	}
	idle(t, db)
}

// TestConnSeesWhatAWriteHasLeft: a text of a write and of a SET is a write, and
// what it has set is there for the next statement.
func TestConnSeesWhatAWriteHasLeft(t *testing.T) {
	db, sqldb := open(t)
	err := onConn(t.Context(), sqldb, func(c *sql.Conn) error {
		if _, err := c.ExecContext(t.Context(), "insert into message (text) values ('x'); set work_mem = '1MB'"); err != nil {
			return err
		}
		var got string
		err := c.QueryRowContext(t.Context(), "show work_mem").Scan(&got)
		if got != "1MB" {
			t.Errorf("work_mem is %s, want the 1MB that was set", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	idle(t, db)
}
