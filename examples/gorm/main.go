// Gorm writes and reads messages with GORM on a pgtide cluster: GORM takes the
// *sql.DB of package pgtidesql, and contexts carry the session. It starts a cluster
// of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidesql"
)

// Message is a row.
type Message struct {
	ID   int64
	Text string
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		return err
	}
	defer cluster.Close()
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()})
	if err != nil {
		return err
	}
	defer db.Close()
	g, err := open(db)
	if err != nil {
		return err
	}
	if err := g.WithContext(ctx).AutoMigrate(&Message{}); err != nil {
		return err
	}
	ctx = pgtide.NewSession(ctx)
	if err := post(g.WithContext(ctx), "hello"); err != nil {
		return err
	}
	texts, err := list(g.WithContext(ctx))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, texts)
	return nil
}

// open opens GORM on db.
func open(db *pgtide.DB) (*gorm.DB, error) {
	return gorm.Open(postgres.New(postgres.Config{Conn: pgtidesql.Open(db)}), &gorm.Config{Logger: logger.Discard})
}

func post(g *gorm.DB, text string) error {
	return g.Create(&Message{Text: text}).Error
}

func list(g *gorm.DB) (texts []string, err error) {
	err = g.Model(&Message{}).Order("id").Pluck("text", &texts).Error
	return texts, err
}
