package gorm_test

import (
	"fmt"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// TestFailover goes on with the same gorm.DB, and the statements that it has
// prepared, while the primary is killed and a replica promoted.
func TestFailover(t *testing.T) {
	c, err := lab.Start(t.Context(), lab.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	tide, err := pgtide.Open(t.Context(), pgtide.Options{DSN: c.DSN()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tide.Close)
	config := &gorm.Config{PrepareStmt: true, Logger: logger.Discard}
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: pgtidesql.Open(tide)}), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.WithContext(pgtide.OnPrimary(t.Context())).AutoMigrate(&Author{}, &Book{}); err != nil {
		t.Fatal(err)
	}
	var made int
	create := func() error {
		made++
		ctx, name := pgtide.NewSession(t.Context()), fmt.Sprintf("author %d", made)
		if err := db.WithContext(ctx).Create(&Author{Name: name, Books: []Book{{Title: "one"}}}).Error; err != nil {
			return err
		}
		var a Author
		err := db.WithContext(ctx).Preload("Books").First(&a, "name = ?", name).Error
		if err == nil && len(a.Books) != 1 {
			err = fmt.Errorf("%s has %d books, want 1", name, len(a.Books))
		}
		return err
	}
	for range 20 {
		if err := create(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Primary().Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := make(chan error, 1)
	go func() { promoted <- c.Promote(t.Context(), c.Replicas()[0].Name()) }()
	// What nobody was writing when the primary died waits for the next one.
	for deadline, n := time.Now().Add(20*time.Second), 0; n < 20; n++ {
		if err := create(); err != nil {
			t.Fatalf("after %d writes behind the failover: %v", n, err)
		}
		if time.Now().After(deadline) {
			t.Fatal("20 writes took 20 s")
		}
	}
	if err := <-promoted; err != nil {
		t.Error(err)
	}
}
