package bun_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/fstest"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"

	"github.com/pgtide/pgtide"
)

var errUndo = errors.New("undo")

func (p *program) transactions(t *testing.T) {
	for where, ctx := range scopes(t) {
		kept, undone, inner := p.name+where+" kept", p.name+where+" undone", p.name+where+" inner"
		insert := func(ctx context.Context, db bun.IDB, name string) error {
			_, err := db.NewInsert().Model(&Author{Name: name}).Exec(ctx)
			return err
		}
		err := p.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if err := insert(ctx, tx, kept); err != nil {
				return err
			}
			if err := p.find(ctx, tx, kept); err != nil {
				t.Errorf("%s: a transaction does not see what it wrote: %v", where, err)
			}
			err := tx.RunInTx(ctx, nil, func(ctx context.Context, nested bun.Tx) error { // a savepoint
				if err := insert(ctx, nested, inner); err != nil {
					return err
				}
				return errUndo
			})
			if !errors.Is(err, errUndo) {
				return err
			}
			if err := p.find(ctx, tx, inner); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("%s: after the savepoint was undone: %v, want sql.ErrNoRows", where, err)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if err := p.find(ctx, p.db, kept); err != nil {
			t.Errorf("%s: what was committed: %v", where, err)
		}
		p.OnReplica(t, "select from authors where name = $1", kept)

		tx, err := p.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		if err != nil {
			t.Fatal(err)
		}
		if err := insert(ctx, tx, undone); err != nil {
			t.Error(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if err := p.find(ctx, p.db, undone); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("%s: what was rolled back: %v, want sql.ErrNoRows", where, err)
		}

		cancelled, cancel := context.WithCancel(ctx)
		err = p.db.RunInTx(cancelled, nil, func(ctx context.Context, tx bun.Tx) error {
			if err := insert(ctx, tx, undone); err != nil {
				return err
			}
			cancel()
			return p.find(ctx, tx, undone)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a transaction cancelled: %v, want context.Canceled", where, err)
		}
		if err := p.find(ctx, p.db, undone); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("%s: what was cancelled: %v, want sql.ErrNoRows", where, err)
		}
	}
}

func (p *program) readOnly(t *testing.T) {
	ctx, name := pgtide.NewSession(t.Context()), p.name+" before a read-only transaction"
	o := &sql.TxOptions{ReadOnly: true}
	err := p.db.RunInTx(ctx, o, func(ctx context.Context, tx bun.Tx) error {
		var a Author
		if err := tx.NewSelect().Model(&a).Relation("Books").Where("author.name = ?", "seed").Scan(ctx); err != nil || len(a.Books) != 2 {
			t.Errorf("%d books, %v; want 2", len(a.Books), err)
		}
		allOnReplicas(t, ctx)
		_, err := tx.NewInsert().Model(&Author{Name: "never"}).Exec(ctx)
		return err
	})
	if code(err) != "25006" {
		t.Errorf("a write in a read-only transaction: %v, want 25006", err)
	}
	// One that follows a write of its session sees it.
	if _, err := p.db.NewInsert().Model(&Author{Name: name}).Exec(ctx); err != nil {
		t.Fatal(err)
	}
	err = p.db.RunInTx(ctx, o, func(ctx context.Context, tx bun.Tx) error { return p.find(ctx, tx, name) })
	if err != nil {
		t.Errorf("a read-only transaction after a write: %v", err)
	}
}

func (p *program) locking(t *testing.T) {
	lock := func(ctx context.Context, db bun.IDB) error {
		return db.NewSelect().Model(&Author{}).Where("name = ?", "seed").For("update skip locked").Scan(ctx)
	}
	ctx := pgtide.NewSession(t.Context())
	if err := lock(ctx, p.db); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("a locking read: %v, want the primary", d)
	}
	err := p.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := lock(ctx, tx); err != nil {
			return err
		}
		if err := lock(t.Context(), p.db); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("a row that is locked: %v, want it skipped", err)
		}
		_, err := tx.NewUpdate().Model((*Author)(nil)).Set("visits = visits + 1").Where("name = ?", "seed").Exec(ctx)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// An expression that writes, in a query that is built to read.
	if err := p.db.NewSelect().ColumnExpr("nextval('books_id_seq')").Scan(ctx, new(int64)); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("nextval: %v, want the primary", d)
	}
}

func (p *program) told(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	seed := func() *bun.SelectQuery { return p.db.NewSelect().Model(&Author{}).Where("name = ?", "seed") }
	for way, read := range map[string]func() error{
		"a context": func() error { return seed().Scan(pgtide.OnPrimary(ctx)) },
		"a hint":    func() error { return seed().Comment("pgtide: primary").Scan(ctx) },
	} {
		if err := read(); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if d := last(t, ctx); d.Reason != pgtide.ReasonForced {
			t.Errorf("%s: %v, want it forced to the primary", way, d)
		}
	}
	if err := seed().Scan(ctx); err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica {
		t.Errorf("the next read: %v, want a replica again", d)
	}
}

// connection sets something on the server session: the rest must meet it, and
// nobody else.
func (p *program) connection(t *testing.T) {
	ctx := t.Context()
	conn, err := p.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(ctx, "set application_name = ?", "mine"); err != nil {
		t.Error(err)
	}
	var name string
	if err := conn.NewRaw("show application_name").Scan(ctx, &name); err != nil || name != "mine" {
		t.Errorf("what the connection has set: %q, %v; want mine", name, err)
	}
	err = conn.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&Author{Name: p.name + " on one connection"}).Exec(ctx)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := p.find(ctx, p.db, p.name+" on one connection"); err != nil {
		t.Errorf("what was committed on one connection: %v", err)
	}
	if err := p.db.NewRaw("show application_name").Scan(ctx, &name); err != nil || name == "mine" {
		t.Errorf("what one connection set has reached another: %q, %v", name, err)
	}
}

// migrations run on the primary, from the first look at what is done on.
func (p *program) migrations(t *testing.T) {
	type Shelf struct {
		ID    int64 `bun:",pk,autoincrement"`
		Place string
	}
	migrations := migrate.NewMigrations()
	err := migrations.Discover(fstest.MapFS{
		"20260101000000_shelves.tx.up.sql":   {Data: []byte("create table shelves (id bigint generated by default as identity primary key, place text)")},
		"20260101000000_shelves.tx.down.sql": {Data: []byte("drop table shelves")},
		"20260102000000_place.up.sql":        {Data: []byte("create index concurrently place on shelves (place);\n--bun:split\nanalyze shelves")},
		"20260102000000_place.down.sql":      {Data: []byte("drop index concurrently place")},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
	migrator := migrate.NewMigrator(p.db, migrations)
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(migrator.Init(ctx))
	step(migrator.Lock(ctx))
	_, err = migrator.Migrate(ctx)
	step(err)
	step(migrator.Unlock(ctx))
	if all, err := migrator.MigrationsWithStatus(ctx); err != nil || len(all.Unapplied()) != 0 {
		t.Errorf("not applied: %v, %v; want nothing", all.Unapplied(), err)
	}
	_, err = p.db.NewInsert().Model(&Shelf{Place: "left"}).Exec(t.Context())
	step(err)
	step(p.db.NewSelect().Model(&Shelf{}).Where("place = ?", "left").Scan(t.Context()))
	p.OnReplica(t, "select place from shelves")
	_, err = migrator.Rollback(ctx)
	step(err)
	for _, d := range pgtide.Explain(ctx) {
		if d.Role != pgtide.RolePrimary {
			t.Errorf("a migration: %v, want the primary", d)
		}
	}
}
