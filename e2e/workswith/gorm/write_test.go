package gorm_test

import (
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/pgtide/pgtide"
)

// readAfterWrite makes an author in every way that GORM has and looks for it.
func (p *program) readAfterWrite(t *testing.T) {
	for way, write := range map[string]func(db *gorm.DB, name string) error{
		"Create": func(db *gorm.DB, name string) error {
			return db.Create(&Author{Name: name}).Error
		},
		"Create with an association and hooks": func(db *gorm.DB, name string) error {
			a := &Author{Name: name, Books: []Book{{Title: " a "}, {Title: "b"}}}
			if err := db.Create(a).Error; err != nil {
				return err
			}
			var again Author
			if err := db.Preload("Books").First(&again, a.ID).Error; err != nil {
				return err
			}
			if len(again.Books) != 2 || again.Books[0].Title != "a" || again.Visits != 2 {
				return fmt.Errorf("got %+v, want two books and two visits", again)
			}
			return nil
		},
		"Association Append": func(db *gorm.DB, name string) error {
			a := &Author{Name: name}
			if err := db.Create(a).Error; err != nil {
				return err
			}
			if err := db.Model(a).Association("Books").Append(&Book{Title: "appended"}); err != nil {
				return err
			}
			if n := db.Model(a).Association("Books").Count(); n != 1 {
				return fmt.Errorf("%d books, want 1", n)
			}
			return nil
		},
		"Create with a slice": func(db *gorm.DB, name string) error {
			return db.Create([]*Author{{Name: name}, {Name: name + ", another"}}).Error
		},
		"CreateInBatches": func(db *gorm.DB, name string) error {
			authors := make([]Author, 7)
			for i := range authors {
				authors[i].Name = fmt.Sprintf("%s, %d", name, i)
			}
			authors[6].Name = name
			return db.CreateInBatches(authors, 3).Error
		},
		"Create with a map": func(db *gorm.DB, name string) error {
			return db.Model(&Author{}).Create(map[string]any{"name": name}).Error
		},
		"Save": func(db *gorm.DB, name string) error {
			a := &Author{Name: "before " + name}
			if err := db.Save(a).Error; err != nil {
				return err
			}
			a.Name = name
			return db.Save(a).Error
		},
		"FirstOrCreate": func(db *gorm.DB, name string) error {
			var first, second Author
			if err := db.Where(Author{Name: name}).FirstOrCreate(&first).Error; err != nil {
				return err
			}
			if err := db.Where(Author{Name: name}).FirstOrCreate(&second).Error; err != nil {
				return err
			}
			if first.ID != second.ID {
				return fmt.Errorf("it was made twice: %d and %d", first.ID, second.ID)
			}
			return nil
		},
		"OnConflict": func(db *gorm.DB, name string) error {
			upsert := clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.Assignments(map[string]any{"visits": gorm.Expr("authors.visits + 1")})}
			for range 2 {
				if err := db.Clauses(upsert).Create(&Author{Name: name}).Error; err != nil {
					return err
				}
			}
			return db.Where("name = ? and visits = 1", name).First(&Author{}).Error
		},
		"Updates with Returning": func(db *gorm.DB, name string) error {
			a := &Author{Name: "before " + name}
			if err := db.Create(a).Error; err != nil {
				return err
			}
			var updated []Author
			if err := db.Model(&updated).Clauses(clause.Returning{}).Where("id = ?", a.ID).Update("name", name).Error; err != nil {
				return err
			}
			if len(updated) != 1 || updated[0].Name != name {
				return fmt.Errorf("returned %v", updated)
			}
			return nil
		},
		"Raw insert returning": func(db *gorm.DB, name string) error {
			var id uint
			return db.Raw("insert into authors (name) values (?) returning id", name).Scan(&id).Error
		},
		"Row of an insert": func(db *gorm.DB, name string) error {
			var id uint
			return db.Raw("insert into authors (name) values (?) returning id", name).Row().Scan(&id)
		},
		"Raw with a CTE that writes": func(db *gorm.DB, name string) error {
			var id uint
			return db.Raw("with made as (insert into authors (name) values (?) returning id) select id from made", name).Scan(&id).Error
		},
		"Exec": func(db *gorm.DB, name string) error {
			return db.Exec("insert into authors (name) values (@name)", map[string]any{"name": name}).Error
		},
		"Transaction": func(db *gorm.DB, name string) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Author{Name: name}).Error })
		},
		"generics": func(db *gorm.DB, name string) error {
			return gorm.G[Author](db).Create(db.Statement.Context, &Author{Name: name})
		},
	} {
		for where, ctx := range scopes(t) {
			name := fmt.Sprintf("%s, %s, %s", p.name, way, where)
			db := p.db.WithContext(ctx)
			if err := write(db, name); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if err := db.Where("name = ?", name).First(&Author{}).Error; err != nil {
				t.Errorf("%s: the read after it: %v", name, err)
			}
			var n int64
			if err := db.Model(&Author{}).Where("name = ?", name).Count(&n).Error; err != nil || n != 1 {
				t.Errorf("%s: counted %d, %v; want 1", name, n, err)
			}
			p.OnReplica(t, "select name from authors where name = $1", name)
		}
	}
}

// changeAndRemove acts on seeds: a read at a replica would still find them as
// they were.
func (p *program) changeAndRemove(t *testing.T) {
	for where, ctx := range scopes(t) {
		*p.row++
		db := p.db.WithContext(ctx)
		changed, removed := fmt.Sprintf("change me %d", *p.row), fmt.Sprintf("remove me %d", *p.row)
		var a Author
		if err := db.Where("name = ?", changed).First(&a).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.Model(&a).Updates(Author{Visits: 7}).Error; err != nil {
			t.Fatal(err)
		}
		var again Author
		if err := db.First(&again, a.ID).Error; err != nil || again.Visits != 7 {
			t.Errorf("%s: %d visits after an update, %v; want 7", where, again.Visits, err)
		}
		if err := db.Where("name = ?", removed).Delete(&Author{}).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.Where("name = ?", removed).First(&Author{}).Error; !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("%s: after a soft delete: %v, want gorm.ErrRecordNotFound", where, err)
		}
		if err := db.Unscoped().Where("name = ?", removed).First(&Author{}).Error; err != nil {
			t.Errorf("%s: what was deleted softly: %v", where, err)
		}
		if err := db.Unscoped().Where("name = ?", removed).Delete(&Author{}).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.Unscoped().Where("name = ?", removed).First(&Author{}).Error; !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("%s: after a delete: %v, want gorm.ErrRecordNotFound", where, err)
		}
		p.OnReplica(t, "select name from authors where name = $1 and (visits <> 0 or deleted_at is not null)", changed)
		var old Author
		if err := p.db.WithContext(pgtide.OnReplica(pgtide.WithConsistency(t.Context(), pgtide.Eventual))).Where("name = ?", removed).First(&old).Error; err != nil {
			t.Errorf("%s: a replica that was asked for whatever it has: %v, want the row that was removed", where, err)
		}
	}
}
