package gorm_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/pgtide/pgtide"
)

var errUndo = errors.New("undo")

func (p *program) transactions(t *testing.T) {
	for where, ctx := range scopes(t) {
		db := p.db.WithContext(ctx)
		kept, undone, inner := p.name+where+" kept", p.name+where+" undone", p.name+where+" inner"
		find := func(db *gorm.DB, name string) error { return db.Where("name = ?", name).First(&Author{}).Error }

		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Author{Name: kept}).Error; err != nil {
				return err
			}
			if err := find(tx, kept); err != nil {
				t.Errorf("%s: a transaction does not see what it wrote: %v", where, err)
			}
			err := tx.Transaction(func(nested *gorm.DB) error { // a savepoint
				if err := nested.Create(&Author{Name: inner}).Error; err != nil {
					return err
				}
				return errUndo
			})
			if !errors.Is(err, errUndo) {
				return err
			}
			if err := find(tx, inner); !errors.Is(err, gorm.ErrRecordNotFound) {
				t.Errorf("%s: after the savepoint was undone: %v, want gorm.ErrRecordNotFound", where, err)
			}
			// Written out, and with a failure in between.
			tx.SavePoint("before")
			if err := tx.Create(&Author{Name: kept}).Error; code(err) != "23505" {
				t.Errorf("%s: a name taken in a transaction: %v, want 23505", where, err)
			}
			tx.RollbackTo("before")
			tx.Error = nil
			return find(tx, kept)
		})
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		if err := find(db, kept); err != nil {
			t.Errorf("%s: what was committed: %v", where, err)
		}
		p.OnReplica(t, "select from authors where name = $1", kept)

		tx := db.Begin()
		if err := tx.Create(&Author{Name: undone}).Error; err != nil {
			t.Error(err)
		}
		if err := tx.Rollback().Error; err != nil {
			t.Error(err)
		}
		if err := find(db, undone); !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("%s: what was rolled back: %v, want gorm.ErrRecordNotFound", where, err)
		}

		cancelled, cancel := context.WithCancel(ctx)
		err = p.db.WithContext(cancelled).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Author{Name: undone}).Error; err != nil {
				return err
			}
			cancel()
			return find(tx, undone)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a transaction cancelled: %v, want context.Canceled", where, err)
		}
		if err := find(db, undone); !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("%s: what was cancelled: %v, want gorm.ErrRecordNotFound", where, err)
		}
	}
}

func (p *program) readOnly(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	err := p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var a Author
		if err := tx.Preload("Books").Where("name = ?", "seed").First(&a).Error; err != nil || len(a.Books) != 2 {
			t.Errorf("%d books, %v; want 2", len(a.Books), err)
		}
		allOnReplicas(t, ctx)
		return tx.Create(&Author{Name: "never"}).Error
	}, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if code(err) != "25006" {
		t.Errorf("a write in a read-only transaction: %v, want 25006", err)
	}
	// One that follows a write of its session sees it.
	if err := p.db.WithContext(ctx).Create(&Author{Name: p.name + " before a read-only transaction"}).Error; err != nil {
		t.Fatal(err)
	}
	err = p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		return tx.Where("name = ?", p.name+" before a read-only transaction").First(&Author{}).Error
	}, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Errorf("a read-only transaction after a write: %v", err)
	}
}

func (p *program) locking(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	lock := clause.Locking{Strength: clause.LockingStrengthUpdate, Options: clause.LockingOptionsSkipLocked}
	if err := p.db.WithContext(ctx).Clauses(lock).Where("name = ?", "seed").First(&Author{}).Error; err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RolePrimary {
		t.Errorf("a locking read: %v, want the primary", d)
	}
	err := p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var a Author
		if err := tx.Clauses(lock).Where("name = ?", "seed").First(&a).Error; err != nil {
			return err
		}
		// Somebody else does not get it.
		other := p.db.WithContext(t.Context()).Clauses(lock).Where("name = ?", "seed").First(&Author{}).Error
		if !errors.Is(other, gorm.ErrRecordNotFound) {
			t.Errorf("a row that is locked: %v, want it skipped", other)
		}
		return tx.Model(&a).Update("visits", gorm.Expr("visits")).Error
	})
	if err != nil {
		t.Error(err)
	}
}

// onPrimary is a scope of GORM for one statement.
func onPrimary(db *gorm.DB) *gorm.DB {
	return db.WithContext(pgtide.OnPrimary(db.Statement.Context))
}

func (p *program) told(t *testing.T) {
	ctx := pgtide.NewSession(t.Context())
	for way, read := range map[string]func(db *gorm.DB) error{
		"a scope": func(db *gorm.DB) error {
			return db.Scopes(onPrimary).Preload("Books").Where("name = ?", "seed").First(&Author{}).Error
		},
		"a hint": func(db *gorm.DB) error {
			return db.Raw("/* pgtide: primary */ select * from authors where name = ?", "seed").Scan(&Author{}).Error
		},
	} {
		if err := read(p.db.WithContext(ctx)); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if d := last(t, ctx); d.Reason != pgtide.ReasonForced {
			t.Errorf("%s: %v, want it forced to the primary", way, d)
		}
	}
	if err := p.db.WithContext(ctx).Where("name = ?", "seed").First(&Author{}).Error; err != nil {
		t.Error(err)
	}
	if d := last(t, ctx); d.Role != pgtide.RoleReplica {
		t.Errorf("the next read: %v, want a replica again", d)
	}
}

// connection sets something on the server session: the rest must meet it, and
// nobody else.
func (p *program) connection(t *testing.T) {
	db := p.db.WithContext(t.Context())
	err := db.Connection(func(one *gorm.DB) error {
		if err := one.Exec("set application_name = 'mine'").Error; err != nil {
			return err
		}
		if err := one.Exec("create temp table mine (n int)").Error; err != nil {
			return err
		}
		if err := one.Exec("insert into mine values (?)", 1).Error; err != nil {
			return err
		}
		var n int
		var name string
		if err := one.Raw("select n from mine").Scan(&n).Error; err != nil || n != 1 {
			t.Errorf("the temporary table: %d, %v; want 1", n, err)
		}
		if err := one.Raw("show application_name").Scan(&name).Error; err != nil || name != "mine" {
			t.Errorf("what the connection has set: %q, %v; want mine", name, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var name string
	if err := db.Raw("show application_name").Scan(&name).Error; err != nil || name == "mine" {
		t.Errorf("what one connection set has reached another: %q, %v", name, err)
	}
}
