package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tsenart/nap"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/extra/bunexp"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/plugin/dbresolver"
)

// library is what an application reads and writes with. The id of an insert is
// the server's to choose when it is zero.
type library struct {
	read   func(ctx context.Context, id int64) (found bool, err error)
	insert func(ctx context.Context, id int64) error
}

// under is what a library or a router is given.
type under struct {
	primary, replica *sql.DB
	pgtide           *sql.DB // nil where it cannot be
	nap              string  // a driver's name and a source for each server, for nap opens them itself
	sources          string
	closers
}

// contender is a router, and the same library without one.
type contender struct {
	router, library string
	routed, plain   func(*under) (library, error)
}

// contenders are the routers compared. Of pgtide's own, each library is compared
// with itself over pgx/stdlib.
var contenders = []contender{
	{"nap", "database/sql", overNap, plainSQL},
	{"gorm dbresolver", "gorm", overResolver, plainGORM},
	{"bun resolver", "bun", overBunResolver, plainBun},
	{"pgtide", "database/sql", func(u *under) (library, error) { return overSQL(u.pgtide, u.pgtide), nil }, plainSQL},
	{"pgtide", "gorm", func(u *under) (library, error) { return overGORM(u.pgtide, u.pgtide) }, plainGORM},
	{"pgtide", "bun", func(u *under) (library, error) { return overBun(onBun(u.pgtide), onBun(u.pgtide)), nil }, plainBun},
}

// direct is what nap.DB has of sql.DB.
type direct interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func overSQL(read, write direct) library {
	return library{
		read: func(ctx context.Context, id int64) (bool, error) {
			var v string
			return found(read.QueryRowContext(ctx, "select v from peer where id = $1", id).Scan(&v))
		},
		insert: func(ctx context.Context, id int64) error {
			if id == 0 {
				_, err := write.ExecContext(ctx, "insert into peer (v) values ($1)", "x")
				return err
			}
			_, err := write.ExecContext(ctx, "insert into peer (id, v) values ($1, $2)", id, "x")
			return err
		},
	}
}

func plainSQL(u *under) (library, error) { return overSQL(u.replica, u.primary), nil }

func overNap(u *under) (library, error) {
	db, err := nap.Open(u.nap, u.sources)
	if err != nil {
		return library{}, err
	}
	u.add(func() { db.Close() })
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return overSQL(db, db), nil
}

// gormRow is a row of the table for GORM.
type gormRow struct {
	ID int64 `gorm:"primaryKey"`
	V  string
}

func (gormRow) TableName() string { return "peer" }

func openGORM(db *sql.DB) (*gorm.DB, error) {
	return gorm.Open(postgres.New(postgres.Config{Conn: db}), &gorm.Config{Logger: logger.Discard})
}

func overGORM(read, write *sql.DB) (library, error) {
	r, err := openGORM(read)
	if err != nil {
		return library{}, err
	}
	w, err := openGORM(write)
	return onGORM(r, w), err
}

func onGORM(read, write *gorm.DB) library {
	return library{
		read: func(ctx context.Context, id int64) (bool, error) {
			var row gormRow
			return found(read.WithContext(ctx).Take(&row, id).Error)
		},
		insert: func(ctx context.Context, id int64) error {
			return write.WithContext(ctx).Create(&gormRow{ID: id, V: "x"}).Error
		},
	}
}

func plainGORM(u *under) (library, error) { return overGORM(u.replica, u.primary) }

func overResolver(u *under) (library, error) {
	db, err := openGORM(u.primary)
	if err != nil {
		return library{}, err
	}
	err = db.Use(dbresolver.Register(dbresolver.Config{
		Replicas: []gorm.Dialector{postgres.New(postgres.Config{Conn: u.replica})},
	}))
	return onGORM(db, db), err
}

// bunRow is a row of the table for bun. bun writes arguments into the text:
// where calls are timed they are always the same, as others' texts are.
type bunRow struct {
	bun.BaseModel `bun:"table:peer,alias:p"`

	ID int64 `bun:"id,pk,autoincrement"`
	V  string
}

func onBun(db *sql.DB, options ...bun.DBOption) *bun.DB {
	return bun.NewDB(db, pgdialect.New(), options...)
}

func overBun(read, write *bun.DB) library {
	return library{
		read: func(ctx context.Context, id int64) (bool, error) {
			var row bunRow
			return found(read.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx))
		},
		insert: func(ctx context.Context, id int64) error {
			_, err := write.NewInsert().Model(&bunRow{ID: id, V: "x"}).Exec(ctx)
			return err
		},
	}
}

func plainBun(u *under) (library, error) { return overBun(onBun(u.replica), onBun(u.primary)), nil }

func overBunResolver(u *under) (library, error) {
	db := onBun(u.primary, bun.WithConnResolver(bunexp.NewReadWriteConnResolver(
		bunexp.WithDBReplica(unclosed{u.replica}, bunexp.DBReplicaReadOnly))))
	u.add(func() { db.Close() })
	return overBun(db, db), nil
}

// unclosed is a pool that others use too.
type unclosed struct{ *sql.DB }

func (unclosed) Close() error { return nil }

// found tells an absent row from an error.
func found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, gorm.ErrRecordNotFound) {
		return false, nil
	}
	return err == nil, err
}

// under connects everything to s.
func (s servers) under(ctx context.Context) (u *under, err error) {
	u = &under{nap: "pgx"}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	for _, to := range []struct {
		db  **sql.DB
		dsn string
	}{{&u.primary, s.primary}, {&u.replica, s.replica}} {
		if *to.db, err = s.stdlib(to.dsn); err != nil {
			return nil, err
		}
		u.add(func() { (*to.db).Close() })
	}
	sources, done, err := s.registered()
	if err != nil {
		return nil, err
	}
	u.add(done)
	u.sources = sources
	ours, done, err := s.pgtideSQL(ctx)
	if err != nil {
		return nil, err
	}
	u.add(done)
	u.pgtide = ours
	return u, nil
}

// both makes c's two libraries.
func (c contender) both(u *under) (routed, plain library, err error) {
	if routed, err = c.routed(u); err == nil {
		plain, err = c.plain(u)
	}
	if err != nil {
		err = fmt.Errorf("%s for %s: %w", c.router, c.library, err)
	}
	return routed, plain, err
}
