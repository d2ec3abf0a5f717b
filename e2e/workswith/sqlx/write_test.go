package sqlx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
)

// writes inserts a row in each way that sqlx has, and reads it. prefix tells its
// rows from those of another run.
func writes(t *testing.T, c *paused.Cluster, db *sqlx.DB, prefix string) {
	stmt, err := db.PreparexContext(t.Context(), insert)
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	named, err := db.PrepareNamedContext(t.Context(), insertNamed+" returning id")
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	row := func(email string) person { return person{FirstName: "New", LastName: "Person", Email: email} }
	inTx := func(ctx context.Context, f func(tx *sqlx.Tx) error) error {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	}
	for way, write := range map[string]func(ctx context.Context, email string) error{
		"MustExec": func(ctx context.Context, email string) error {
			db.MustExecContext(ctx, insert, email)
			return nil
		},
		"NamedExec": func(ctx context.Context, email string) error {
			_, err := db.NamedExecContext(ctx, insertNamed, row(email))
			return err
		},
		"NamedQuery": func(ctx context.Context, email string) error {
			rows, err := db.NamedQueryContext(ctx, insertNamed+" returning *", row(email))
			if err != nil {
				return err
			}
			defer rows.Close()
			var p person
			if !rows.Next() {
				return fmt.Errorf("no row: %w", rows.Err())
			}
			return rows.StructScan(&p)
		},
		"Get": func(ctx context.Context, email string) error {
			return db.GetContext(ctx, new(int64), insert+" returning id", email)
		},
		"Select": func(ctx context.Context, email string) error {
			return db.SelectContext(ctx, &[]person{}, insert+" returning *", email)
		},
		"Get of a common table expression": func(ctx context.Context, email string) error {
			return db.GetContext(ctx, new(int64), "with new as ("+insert+" returning id) select id from new", email)
		},
		"QueryRowx": func(ctx context.Context, email string) error {
			return db.QueryRowxContext(ctx, insert+" returning *", email).StructScan(new(person))
		},
		"prepared": func(ctx context.Context, email string) error {
			_, err := stmt.ExecContext(ctx, email)
			return err
		},
		"prepared with names": func(ctx context.Context, email string) error {
			return named.GetContext(ctx, new(int64), row(email))
		},
		"transaction": func(ctx context.Context, email string) error {
			return inTx(ctx, func(tx *sqlx.Tx) error {
				_, err := tx.NamedExecContext(ctx, insertNamed, row(email))
				return err
			})
		},
		"transaction with prepared statements": func(ctx context.Context, email string) error {
			return inTx(ctx, func(tx *sqlx.Tx) error {
				if err := tx.NamedStmtContext(ctx, named).GetContext(ctx, new(int64), row(email)); err != nil {
					return err
				}
				_, err := tx.StmtxContext(ctx, stmt).ExecContext(ctx, email+" too")
				return err
			})
		},
		"connection": func(ctx context.Context, email string) error {
			conn, err := db.Connx(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.GetContext(ctx, new(int64), insert+" returning id", email)
		},
	} {
		for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
			email := prefix + way + "@" + where
			if err := write(ctx, email); err != nil {
				t.Errorf("%s: %v", email, err)
				continue
			}
			var got person
			if err := db.GetContext(ctx, &got, byEmail, email); err != nil || got.LastName != "Person" {
				t.Errorf("%s: read %v, %v", email, got, err)
			}
			c.OnReplica(t, byEmail, email)
		}
	}

	// The methods without a context.
	email := prefix + "no@context"
	db.MustExec(insert, email)
	var got person
	if err := db.Get(&got, byEmail, email); err != nil || got.LastName != "Person" {
		t.Errorf("without a context: %v, %v", got, err)
	}
	c.OnReplica(t, byEmail, email)
}

// manyRows inserts and updates several rows by one statement.
func manyRows(t *testing.T, c *paused.Cluster, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	team := []person{{FirstName: "Ed", LastName: "Team", Email: "ed@team"}, {FirstName: "Flo", LastName: "Team", Email: "flo@team"}}
	r, err := db.NamedExecContext(ctx, insertNamed, team)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); err != nil || n != 2 {
		t.Errorf("NamedExec of a slice: %d rows, %v", n, err)
	}
	query, args, err := sqlx.In("update person set nickname = ? where email in (?)", "team", []string{"ed@team", "flo@team"})
	if err != nil {
		t.Fatal(err)
	}
	db.MustExecContext(ctx, db.Rebind(query), args...)
	var got []person
	if err := db.SelectContext(ctx, &got, "select * from person where nickname = 'team' order by email"); err != nil || len(got) != 2 || got[1].FirstName != "Flo" {
		t.Errorf("read %v, %v", got, err)
	}
	c.OnReplica(t, "select from person where last_name = 'Team'")
}

func transactions(t *testing.T, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	tx := db.MustBeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	defer tx.Rollback()
	tx.MustExecContext(ctx, insert, "tx@test")
	var got person
	if err := tx.GetContext(ctx, &got, byEmail+" for update", "tx@test"); err != nil {
		t.Errorf("in the transaction: %v, want its own write", err)
	}
	if err := tx.QueryRowxContext(ctx, byEmail, "tx@test").StructScan(&got); err != nil {
		t.Errorf("in the transaction: %v, want its own write", err)
	}
	paused.Served(t, ctx, pgtide.RolePrimary)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.GetContext(ctx, &got, byEmail, "tx@test"); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("after the rollback: %v, want no row", err)
	}
}

func readOnly(t *testing.T, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	tx, err := db.BeginTxx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var all []person
	if err := tx.SelectContext(ctx, &all, "select * from person"); err != nil || len(all) != 2 {
		t.Errorf("read %v, %v, want the seeded rows, as nothing was written in the session", all, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)
	_, err = tx.NamedExecContext(ctx, insertNamed, person{Email: "read@only"})
	paused.Refused(t, err, "25006")
}

// connection keeps what is set on it, and has a transaction.
func connection(t *testing.T, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	conn, err := db.Connx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "create temp table picked (email text)"); err != nil {
		t.Fatal(err)
	}
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	tx.MustExecContext(ctx, "insert into picked select email from person where id = 1")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var email string
	if err := conn.GetContext(ctx, &email, "select email from picked"); err != nil || email != "jmoiron@example.com" {
		t.Errorf("the connection's temporary table: %q, %v", email, err)
	}
}
