package sqlx

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

func TestSqlx(t *testing.T) {
	c := paused.New(t, schema)
	db := sqlx.NewDb(c.SQL(t), "pgx")
	t.Run("reads", func(t *testing.T) { reads(t, db) })
	t.Run("by driver name", func(t *testing.T) { byDriverName(t, c) })
	t.Run("what is written is read", func(t *testing.T) { writes(t, c, db, "") })
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run("what is written is read by "+mode.String(), func(t *testing.T) { writes(t, c, withMode(t, c, mode), mode.String()+" ") })
	}
	t.Run("update and delete", func(t *testing.T) { updates(t, db) })
	t.Run("many rows", func(t *testing.T) { manyRows(t, c, db) })
	t.Run("transactions", func(t *testing.T) { transactions(t, db) })
	t.Run("a read-only transaction", func(t *testing.T) { readOnly(t, db) })
	t.Run("a connection", func(t *testing.T) { connection(t, db) })
	t.Run("errors", func(t *testing.T) { failures(t, db) })
}

// withMode opens the nodes as one does behind a connection pooler.
func withMode(t *testing.T, c *paused.Cluster, mode pgx.QueryExecMode) *sqlx.DB {
	o := pgtide.Options{Configure: func(_ string, config *pgxpool.Config) error {
		config.ConnConfig.DefaultQueryExecMode = mode
		return nil
	}}
	for _, n := range c.Nodes() {
		o.Nodes = append(o.Nodes, pgtide.Node{Name: n.Name(), DSN: n.DSN()})
	}
	pool, err := pgtide.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db := sqlx.NewDb(pgtidesql.Open(pool), "pgx")
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// reads has each way to read of sqlx served by a replica.
func reads(t *testing.T, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	john := person{ID: 2, FirstName: "John", LastName: "Doe", Email: "john@example.com", Nickname: sql.NullString{String: "jd", Valid: true}}

	var got person
	if err := db.GetContext(ctx, &got, byEmail, john.Email); err != nil || got != john {
		t.Errorf("Get: %v, %v", got, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	var all []person
	if err := db.SelectContext(ctx, &all, "select * from person order by id"); err != nil || len(all) != 2 || all[1] != john {
		t.Errorf("Select: %v, %v", all, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	query, args, err := sqlx.In("select email from person where id in (?)", []int64{2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	var emails []string
	if err := db.SelectContext(ctx, &emails, db.Rebind(query), args...); err != nil || len(emails) != 1 || emails[0] != john.Email {
		t.Errorf("In: %v, %v", emails, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	rows, err := db.NamedQueryContext(ctx, "select * from person where first_name = :first_name", john)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; rows.Next(); n++ {
		if err := rows.StructScan(&got); err != nil || got != john {
			t.Errorf("StructScan: %v, %v", got, err)
		}
	}
	if rows.Err() != nil || n != 1 {
		t.Errorf("NamedQuery: %d rows, %v", n, rows.Err())
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	if rows, err = db.QueryxContext(ctx, "select id, nickname from person order by id"); err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	m := map[string]any{}
	if err := rows.MapScan(m); err != nil || m["id"] != int64(1) || m["nickname"] != nil {
		t.Errorf("MapScan: %v, %v", m, err)
	}
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if values, err := rows.SliceScan(); err != nil || values[0] != int64(2) || values[1] != "jd" {
		t.Errorf("SliceScan: %v, %v", values, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	stmt, err := db.PreparexContext(ctx, byEmail)
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	if err := stmt.GetContext(ctx, &got, john.Email); err != nil || got != john {
		t.Errorf("prepared Get: %v, %v", got, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	named, err := db.PrepareNamedContext(ctx, "select * from person where last_name = :last_name")
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if err := named.SelectContext(ctx, &all, map[string]any{"last_name": "Doe"}); err != nil || all[len(all)-1] != john {
		t.Errorf("prepared named Select: %v, %v", all, err)
	}
	paused.Served(t, ctx, pgtide.RoleReplica)

	if err := db.GetContext(ctx, &got, byEmail+" for update", john.Email); err != nil || got != john {
		t.Errorf("a locking Get: %v, %v", got, err)
	}
	paused.Served(t, ctx, pgtide.RolePrimary)
	if err := db.GetContext(pgtide.OnPrimary(ctx), &got, byEmail, john.Email); err != nil {
		t.Error(err)
	}
	paused.Served(t, ctx, pgtide.RolePrimary)
	if err := db.GetContext(ctx, &got, byEmail, "nobody"); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("Get of nobody: %v, want sql.ErrNoRows", err)
	}
}

// byDriverName opens the nodes from a connection string.
func byDriverName(t *testing.T, c *paused.Cluster) {
	sqlx.BindDriver(pgtidesql.DriverName, sqlx.DOLLAR)
	db, err := sqlx.ConnectContext(t.Context(), pgtidesql.DriverName, c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := pgtide.NewSession(t.Context())
	if _, err := db.NamedExecContext(ctx, insertNamed, person{FirstName: "By", LastName: "Name", Email: "by@name"}); err != nil {
		t.Fatal(err)
	}
	var got person
	if err := db.GetContext(ctx, &got, byEmail, "by@name"); err != nil || got.LastName != "Name" {
		t.Errorf("read %v, %v", got, err)
	}
	c.OnReplica(t, byEmail, "by@name")
}

// updates changes and deletes a row, and reads after each.
func updates(t *testing.T, db *sqlx.DB) {
	for where, ctx := range map[string]context.Context{"session": pgtide.NewSession(t.Context()), "no session": t.Context()} {
		p := person{FirstName: "Ada", LastName: "Byron", Email: "ada@" + where}
		if _, err := db.NamedExecContext(ctx, insertNamed, p); err != nil {
			t.Fatal(err)
		}
		p.LastName = "Lovelace"
		if _, err := db.NamedExecContext(ctx, "update person set last_name = :last_name where email = :email", p); err != nil {
			t.Fatal(err)
		}
		var got person
		if err := db.GetContext(ctx, &got, byEmail, p.Email); err != nil || got.LastName != "Lovelace" {
			t.Errorf("%s: after the update: %v, %v", where, got, err)
		}
		r, err := db.ExecContext(ctx, db.Rebind("delete from person where email = ?"), p.Email)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			t.Errorf("%s: delete: %d rows, %v", where, n, err)
		}
		if err := db.GetContext(ctx, &got, byEmail, p.Email); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("%s: after the delete: %v", where, err)
		}
	}
}

func failures(t *testing.T, db *sqlx.DB) {
	ctx := pgtide.NewSession(t.Context())
	twin := person{FirstName: "John", LastName: "Twin", Email: "john@example.com"}
	_, err := db.NamedExecContext(ctx, insertNamed, twin)
	paused.Refused(t, err, "23505")
	var id int64
	paused.Refused(t, db.GetContext(ctx, &id, insert+" returning id", twin.Email), "23505")
	_, err = db.NamedQueryContext(ctx, "select nothing from person where email = :email", twin)
	paused.Refused(t, err, "42703")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.SelectContext(canceled, &[]person{}, "select * from person"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
