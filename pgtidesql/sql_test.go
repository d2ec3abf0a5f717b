package pgtidesql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidesql"
)

func TestEveryWayToWriteIsSeen(t *testing.T) {
	db, sqldb := open(t)
	const insert = "insert into message (text) values ($1)"
	inTx := func(ctx context.Context, o *sql.TxOptions, f func(*sql.Tx) error) error {
		tx, err := sqldb.BeginTx(ctx, o)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
	ways := map[string]func(ctx context.Context, text string) error{
		"ExecContext": func(ctx context.Context, text string) error {
			_, err := sqldb.ExecContext(ctx, insert, text)
			return err
		},
		"without arguments": func(ctx context.Context, text string) error {
			_, err := sqldb.ExecContext(ctx, "insert into message (text) values ('"+text+"')")
			return err
		},
		"returning": func(ctx context.Context, text string) error {
			var id int64
			return sqldb.QueryRowContext(ctx, insert+" returning id", text).Scan(&id)
		},
		"function": func(ctx context.Context, text string) error {
			var id int64
			return sqldb.QueryRowContext(ctx, "select write_message($1)", text).Scan(&id)
		},
		"prepared": func(ctx context.Context, text string) error {
			stmt, err := sqldb.PrepareContext(ctx, insert)
			if err != nil {
				return err
			}
			defer stmt.Close()
			_, err = stmt.ExecContext(ctx, text)
			return err
		},
		"transaction": func(ctx context.Context, text string) error {
			return inTx(ctx, nil, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, insert, text)
				return err
			})
		},
		"serializable transaction with a statement prepared outside": func(ctx context.Context, text string) error {
			stmt, err := sqldb.PrepareContext(ctx, insert)
			if err != nil {
				return err
			}
			defer stmt.Close()
			return inTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(tx *sql.Tx) error {
				_, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, text)
				return err
			})
		},
		"connection": func(ctx context.Context, text string) error {
			conn, err := sqldb.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.ExecContext(ctx, insert, text)
			return err
		},
		"connection with session state": func(ctx context.Context, text string) error {
			conn, err := sqldb.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			for _, q := range []string{"set application_name = 'held'", "begin", "set transaction isolation level serializable",
				"insert into message (text) values ('" + text + "')", "commit"} {
				if _, err := conn.ExecContext(ctx, q); err != nil {
					return fmt.Errorf("%s: %w", q, err)
				}
			}
			return nil
		},
		"pgx under a connection": func(ctx context.Context, text string) error {
			conn, err := sqldb.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.Raw(func(c any) error {
				return c.(*pgtidesql.Conn).Physical(ctx, func(p *pgx.Conn) error {
					_, err := p.CopyFrom(ctx, pgx.Identifier{"message"}, []string{"text"}, pgx.CopyFromRows([][]any{{text}}))
					return err
				})
			})
		},
	}
	contexts := map[string]func() context.Context{
		"in a session":      func() context.Context { return pgtide.NewSession(t.Context()) },
		"outside a session": t.Context,
	}
	for way, write := range ways {
		for where, newContext := range contexts {
			name, ctx := fmt.Sprintf("%s %s %d", way, where, time.Now().UnixNano()), newContext()
			if err := write(ctx, name); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var n int
			if err := sqldb.QueryRowContext(ctx, "select count(*) from message where text = $1", name).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s: the read after it found %d rows, want 1 (%v); decisions: %v", name, n, err, pgtide.Explain(ctx))
			}
			idle(t, db)
		}
	}
}

func TestReadsGoToReplicas(t *testing.T) {
	db, sqldb := open(t)
	ctx := pgtide.NewSession(t.Context())
	stmt, err := sqldb.PrepareContext(ctx, "select $1::int")
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	var one int
	if err := stmt.QueryRowContext(ctx, 1).Scan(&one); err != nil || one != 1 {
		t.Errorf("prepared read: %d, %v", one, err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica {
		t.Errorf("prepared read: %v, want a replica", d)
	}
	tx, err := sqldb.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRowContext(ctx, "select 1").Scan(&one); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica || d.Reason != pgtide.ReasonPinned {
		t.Errorf("read in a read-only transaction: %v, want it pinned to a replica", d)
	}
	var pg *pgconn.PgError
	if _, err := tx.ExecContext(ctx, "insert into message (text) values ('x')"); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("write in a read-only transaction: %v, want 25006", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	if err := sqldb.QueryRowContext(pgtide.OnPrimary(ctx), "select 1").Scan(&one); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Reason != pgtide.ReasonForced {
		t.Errorf("OnPrimary: %v", d)
	}
	idle(t, db)
}

func TestWhatIsSetDoesNotLeak(t *testing.T) {
	db, sqldb := open(t)
	sqldb.SetMaxOpenConns(1)
	ctx := t.Context()
	conn, err := sqldb.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if _, err := conn.ExecContext(ctx, "set application_name = 'mine'"); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRowContext(ctx, "show application_name").Scan(&name); err != nil || name != "mine" {
		t.Errorf("the connection forgot what was set: %q, %v", name, err)
	}
	if _, err := conn.ExecContext(ctx, "create temp table mine (a int)"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(ctx, "insert into mine values (1)"); err != nil {
		t.Errorf("the connection lost its temporary table: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	idle(t, db)
	if err := sqldb.QueryRowContext(pgtide.OnPrimary(ctx), "show application_name").Scan(&name); err != nil || name == "mine" {
		t.Errorf("what a connection set has reached another user: %q, %v", name, err)
	}
	if _, err := sqldb.ExecContext(ctx, "set application_name = 'theirs'"); err != nil {
		t.Fatal(err)
	}
	if err := sqldb.QueryRowContext(pgtide.OnPrimary(ctx), "show application_name").Scan(&name); err != nil || name == "theirs" {
		t.Errorf("what a statement set has reached the next: %q, %v", name, err)
	}
	idle(t, db)
}

// A text of several statements can begin a transaction. The handle must keep it,
// or what it wrote is gone when the user thinks to commit.
func TestTextThatLeavesATransactionOpen(t *testing.T) {
	db, sqldb := open(t)
	const count = "select count(*) from message where text = $1"
	for where, ctx := range map[string]context.Context{"in a session": pgtide.NewSession(t.Context()), "outside a session": t.Context()} {
		for way, run := range map[string]func(*sql.Conn, string) error{
			"exec": func(conn *sql.Conn, text string) error {
				_, err := conn.ExecContext(ctx, text, pgx.QueryExecModeSimpleProtocol)
				return err
			},
			"query": func(conn *sql.Conn, text string) error {
				rows, err := conn.QueryContext(ctx, text, pgx.QueryExecModeSimpleProtocol)
				if err != nil {
					return err
				}
				return rows.Close()
			},
		} {
			name := fmt.Sprintf("%s %s %d", way, where, time.Now().UnixNano())
			conn, err := sqldb.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := run(conn, "begin; insert into message (text) values ('"+name+"')"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			var n int
			if err := conn.QueryRowContext(ctx, count, name).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s: in its transaction: %d rows, %v; want 1", name, n, err)
			}
			if err := sqldb.QueryRowContext(t.Context(), count, name).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s: outside its transaction: %d rows, %v; want 0", name, n, err)
			}
			if _, err := conn.ExecContext(ctx, "commit"); err != nil {
				t.Error(err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if err := sqldb.QueryRowContext(ctx, count, name).Scan(&n); err != nil || n != 1 {
				t.Errorf("%s: after the commit: %d rows, %v; want 1", name, n, err)
			}
			idle(t, db)
		}
	}
}

// Such a text can set something, too: on a connection of the user's own it is to
// stay.
func TestTextThatWritesAndSets(t *testing.T) {
	db, sqldb := open(t)
	conn, err := sqldb.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const text = "insert into message (text) values ('set'); set application_name = 'mine'"
	if _, err := conn.ExecContext(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	var name string
	if err := conn.QueryRowContext(t.Context(), "show application_name").Scan(&name); err != nil || name != "mine" {
		t.Errorf("the connection forgot what was set: %q, %v", name, err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	idle(t, db)
}

func TestErrors(t *testing.T) {
	db, sqldb := open(t)
	ctx := pgtide.NewSession(t.Context())
	var pg *pgconn.PgError
	if _, err := sqldb.PrepareContext(ctx, "select from where"); !errors.As(err, &pg) || pg.Code != "42601" {
		t.Errorf("Prepare of nonsense: %v, want 42601", err)
	}
	if _, err := sqldb.ExecContext(ctx, "select 1/0"); !errors.As(err, &pg) || pg.Code != "22012" {
		t.Errorf("division by zero: %v, want 22012", err)
	}
	rows, err := sqldb.QueryContext(ctx, "select 1/(3-n) from generate_series(1, 5) n")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		rows.Close()
	}
	if !errors.As(err, &pg) || pg.Code != "22012" {
		t.Errorf("division by zero in the third row: %v, want 22012", err)
	}
	var n int
	if err := sqldb.QueryRowContext(ctx, "select id from message where id < 0").Scan(&n); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("no row: %v, want sql.ErrNoRows", err)
	}
	if _, err := sqldb.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelLinearizable}); err == nil {
		t.Error("an isolation level that PostgreSQL does not have gave no error")
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := sqldb.ExecContext(canceled, "select 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := sqldb.ExecContext(pgtide.OnNode(ctx, "nowhere"), "select 1"); !errors.Is(err, pgtide.ErrUnknownNode) {
		t.Errorf("unknown node: %v", err)
	}
	idle(t, db)
}

func TestTypes(t *testing.T) {
	_, sqldb := open(t)
	rows, err := sqldb.QueryContext(t.Context(), "select 1::int8 as a, null::text as b, '{1,2}'::int[] as c, '{\"x\":1}'::jsonb as d, 1.50::numeric(5,2) as e")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil || len(types) != 5 || types[0].DatabaseTypeName() != "INT8" {
		t.Fatalf("ColumnTypes: %v, %v", types, err)
	}
	if precision, scale, ok := types[4].DecimalSize(); !ok || precision != 5 || scale != 2 {
		t.Errorf("DecimalSize: %d, %d, %v", precision, scale, ok)
	}
	var a int64
	var b sql.NullString
	var c, d, e string
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := rows.Scan(&a, &b, &c, &d, &e); err != nil || a != 1 || b.Valid || c != "{1,2}" || d != `{"x": 1}` || e != "1.50" {
		t.Errorf("got %v %v %v %v %v, %v", a, b, c, d, e, err)
	}
	var n int
	if err := sqldb.QueryRowContext(t.Context(), "select cardinality($1::int[])", []int{1, 2, 3}).Scan(&n); err != nil || n != 3 {
		t.Errorf("an array as argument: %d, %v", n, err)
	}
}

func TestDSN(t *testing.T) {
	sqldb, err := pgtidesql.OpenDSN(t.Context(), paused.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer sqldb.Close()
	byName, err := sql.Open(pgtidesql.DriverName, paused.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer byName.Close()
	for _, db := range []*sql.DB{sqldb, byName} {
		if err := db.PingContext(t.Context()); err != nil {
			t.Error(err)
		}
		var recovery bool
		if err := db.QueryRowContext(pgtide.OnPrimary(t.Context()), "select pg_is_in_recovery()").Scan(&recovery); err != nil || recovery {
			t.Errorf("OnPrimary: %v, %v", recovery, err)
		}
	}
	if _, err := pgtidesql.OpenDSN(t.Context(), "postgres://app@127.0.0.1:1"); err == nil {
		t.Error("a DSN without a database gave no error")
	}
}

func TestManyAtOnce(t *testing.T) {
	db, sqldb := open(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 20 {
				ctx, text := pgtide.NewSession(t.Context()), fmt.Sprintf("%d-%d", i, n)
				if _, err := sqldb.ExecContext(ctx, "insert into message (text) values ($1)", text); err != nil {
					t.Error(err)
					return
				}
				var found bool
				if err := sqldb.QueryRowContext(ctx, "select exists (select from message where text = $1)", text).Scan(&found); err != nil || !found {
					t.Errorf("%s: found %v, %v", text, found, err)
				}
			}
		})
	}
	group.Wait()
	idle(t, db)
}

// TestPingIsNoRead has what opens a *sql.DB ping it, under every guard.
func TestPingIsNoRead(t *testing.T) {
	o := pgtide.Options{MaxStaleness: -1, Guard: pgtide.GuardError, GuardReads: true}
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
	if err := sqldb.PingContext(t.Context()); err != nil {
		t.Error(err)
	}
}
