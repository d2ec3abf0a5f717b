package pgtide_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
)

// leftovers counts what a session holds that its next user must not meet, and
// names the server process that it is.
const leftovers = `
	select (select count(*) from pg_settings where source = 'session' and name = 'work_mem')
		+ (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')
		+ (select count(*) from pg_listening_channels())
		+ (select count(*) from pg_class where relpersistence = 't' and relname = 'leftover' and relnamespace = pg_my_temp_schema())
		+ (select count(*) from pg_prepared_statements where name = 'leftover'),
		pg_backend_pid()`

// alone opens a DB whose pools hold one connection each: its next user gets what
// the last one had, if it is still there.
func alone(t *testing.T) *pgtide.DB {
	t.Helper()
	return open(t, shared, pgtide.Options{Configure: func(_ string, config *pgxpool.Config) error {
		config.MaxConns = 1
		return nil
	}})
}

// leaving runs a text in each way there is.
var leaving = map[string]func(ctx context.Context, db *pgtide.DB, sql string) error{
	"DB.Exec": func(ctx context.Context, db *pgtide.DB, sql string) error {
		_, err := db.Exec(ctx, sql)
		return err
	},
	"DB.Exec, rewritten": func(ctx context.Context, db *pgtide.DB, sql string) error {
		_, err := db.Exec(ctx, "select 1", instead(sql))
		return err
	},
	"DB.Query, rewritten": func(ctx context.Context, db *pgtide.DB, sql string) error {
		rows, err := db.Query(ctx, "select 1", instead(sql))
		rows.Close()
		return err
	},
	"Conn.Query, rewritten": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			rows, err := c.Query(ctx, "select 1", pgx.QueryExecModeExec, instead(sql))
			rows.Close()
			return err
		})
	},
	"Begin, rewritten": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select 1", instead(sql))
			return err
		})
	},
	"DB.Query": func(ctx context.Context, db *pgtide.DB, sql string) error {
		rows, err := db.Query(ctx, sql)
		rows.Close()
		return err
	},
	"DB.SendBatch": func(ctx context.Context, db *pgtide.DB, sql string) error {
		b := &pgx.Batch{}
		b.Queue("select 1")
		b.Queue(sql)
		return db.SendBatch(ctx, b).Close()
	},
	"DB.SendBatch, first": func(ctx context.Context, db *pgtide.DB, sql string) error {
		b := &pgx.Batch{}
		b.Queue(sql)
		b.Queue("select 1")
		return db.SendBatch(ctx, b).Close()
	},
	"Conn.Pool": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			_, err := c.Pool().Exec(ctx, sql)
			return err
		})
	},
	"Conn.Exec": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			_, err := c.Exec(ctx, sql)
			return err
		})
	},
	"Conn.QueryRow": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			rows, err := c.Query(ctx, sql)
			rows.Close()
			return err
		})
	},
	"Conn.SendBatch": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			b := &pgx.Batch{}
			b.Queue(sql)
			return c.SendBatch(ctx, b).Close()
		})
	},
	"Conn.Begin": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error { return pgx.BeginFunc(ctx, c, execute(ctx, sql)) })
	},
	"Conn.SendBatch, which begins a transaction": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			b := &pgx.Batch{}
			b.BeginTx(pgx.TxOptions{})
			r := c.SendBatch(ctx, b)
			if err := r.Close(); err != nil {
				return err
			}
			if _, err := r.Tx().Exec(ctx, sql); err != nil {
				return err
			}
			return r.Tx().Commit(ctx)
		})
	},
	"Conn.Conn": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return held(ctx, db, func(c *pgtide.Conn) error {
			_, err := c.Conn().Exec(ctx, sql)
			return err
		})
	},
	"Begin": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, execute(ctx, sql))
	},
	"Begin, in a batch": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			b := &pgx.Batch{}
			b.Queue(sql)
			return tx.SendBatch(ctx, b).Close()
		})
	},
	"Begin, in a savepoint": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return pgx.BeginFunc(ctx, tx, execute(ctx, sql)) })
	},
	"Begin, prepared": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			name := "prepared: " + sql
			if _, err := tx.Prepare(ctx, name, sql); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, name)
			return err
		})
	},
	"Begin, past the transaction": func(ctx context.Context, db *pgtide.DB, sql string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := tx.Conn().Exec(ctx, sql)
			return err
		})
	},
}

func held(ctx context.Context, db *pgtide.DB, f func(*pgtide.Conn) error) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return f(conn)
}

func execute(ctx context.Context, sql string) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	}
}

func TestNothingLeaksToTheNextUser(t *testing.T) {
	t.Parallel()
	db, ctx := alone(t), pgtide.OnPrimary(t.Context())
	for way, run := range leaving {
		for _, sql := range []string{
			"set work_mem = '1MB'",
			"select set_config('work_mem', '1MB', false)",
			"select pg_advisory_lock(4711)",
			"listen leftover",
			"create temporary table leftover (a int)",
			"prepare leftover as select 1",
		} {
			if err := run(ctx, db, sql); err != nil {
				t.Errorf("%s of %q: %v", way, sql, err)
			}
			var n, pid int
			if err := db.QueryRow(ctx, leftovers).Scan(&n, &pid); err != nil || n != 0 {
				t.Errorf("%s of %q leaves %d things to the next user (%v)", way, sql, n, err)
			}
		}
	}
}

// TestRewrittenBatchesLeaveNothing: what is rewritten in a batch is not seen.
func TestRewrittenBatchesLeaveNothing(t *testing.T) {
	t.Parallel()
	db, ctx := alone(t), pgtide.OnPrimary(t.Context())
	b := func() *pgx.Batch {
		b := &pgx.Batch{}
		b.Queue("select 1", instead("set work_mem = '1MB'"))
		return b
	}
	for way, run := range map[string]func() error{
		"DB": func() error { return db.SendBatch(ctx, b()).Close() },
		"Conn": func() error {
			return held(ctx, db, func(c *pgtide.Conn) error { return c.SendBatch(ctx, b()).Close() })
		},
		"Tx": func() error {
			return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return tx.SendBatch(ctx, b()).Close() })
		},
	} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		var n, pid int
		if err := db.QueryRow(ctx, leftovers).Scan(&n, &pid); err != nil || n != 0 {
			t.Errorf("a rewritten batch on a %s leaves %d things to the next user (%v)", way, n, err)
		}
	}
}

// TestConnectionsAreKept is the other side: nothing is closed for a statement
// that leaves nothing.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	db, ctx := alone(t), pgtide.OnPrimary(t.Context())
	var n, before, after int
	if err := db.QueryRow(ctx, leftovers).Scan(&n, &before); err != nil {
		t.Fatal(err)
	}
	for way, run := range leaving {
		if way == "Conn.Conn" || way == "Conn.Pool" || way == "Begin, past the transaction" {
			continue // what is done there is not seen
		}
		for _, sql := range []string{
			"select 1",
			"update pair set v = v where false",
			"set local work_mem = '1MB'",
			"select set_config('work_mem', '1MB', true)",
			"select pg_advisory_xact_lock(4711)",
			"notify leftover",
		} {
			if err := run(ctx, db, sql); err != nil {
				t.Errorf("%s of %q: %v", way, sql, err)
			}
			if err := db.QueryRow(ctx, leftovers).Scan(&n, &after); err != nil || n != 0 || after != before {
				t.Errorf("%s of %q closed the connection, or left %d things in it (%v)", way, sql, n, err)
			}
			before = after
		}
	}
}
