package gorm_test

import (
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/pgtide/pgtide"
)

// migrations run on the primary, from the first look at the catalog on, and
// what they made is there for the statement after them.
func (p *program) migrations(t *testing.T) {
	type Shelf struct {
		gorm.Model
		Place  string `gorm:"index"`
		Height float64
	}
	type Wide struct {
		Shelf
		Width int
	}
	*p.row++
	shelves := fmt.Sprintf("shelves%d", *p.row)
	ctx := pgtide.OnPrimary(pgtide.NewSession(t.Context()))
	db := p.db.WithContext(ctx)
	if db.Migrator().HasTable(shelves) {
		t.Error("the table is there already")
	}
	for range 2 { // making it, and finding it made
		if err := db.AutoMigrate(&Author{}, &Book{}); err != nil {
			t.Fatal(err)
		}
		if err := db.Table(shelves).AutoMigrate(&Shelf{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Table(shelves).AutoMigrate(&Wide{}); err != nil {
		t.Fatal(err)
	}
	if !db.Table(shelves).Migrator().HasColumn(&Wide{}, "width") {
		t.Error("the new column is not there")
	}
	types, err := db.Migrator().ColumnTypes(shelves)
	// With PrepareStmt each connection that planned the "select *" behind it
	// before the change refuses it once; without pgtide it does so for good.
	for range p.tide.Stat().Nodes[0].Pool.TotalConns() {
		if code(err) != "0A000" {
			break
		}
		types, err = db.Migrator().ColumnTypes(shelves)
	}
	if err != nil || len(types) != 7 {
		t.Errorf("%d columns, %v; want 7", len(types), err)
	}
	for _, d := range pgtide.Explain(ctx) {
		if d.Role != pgtide.RolePrimary {
			t.Errorf("a migration: %v, want the primary", d)
		}
	}
	plain := p.db.WithContext(t.Context())
	if err := plain.Table(shelves).Create(&Shelf{Place: "left", Height: 1.5}).Error; err != nil {
		t.Error(err)
	}
	if err := plain.Table(shelves).Where("place = ?", "left").First(&Shelf{}).Error; err != nil {
		t.Error(err)
	}
	p.OnReplica(t, "select place from "+shelves)
	if err := db.Migrator().DropTable(shelves); err != nil {
		t.Error(err)
	}
}
