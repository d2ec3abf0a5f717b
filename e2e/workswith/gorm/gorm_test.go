package gorm_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/e2e/paused"
	"github.com/pgtide/pgtide/pgtidesql"
)

// Author has books.
type Author struct {
	gorm.Model
	Name   string `gorm:"uniqueIndex"`
	Visits int
	Books  []Book
}

// Book has hooks, which read and write on their own.
type Book struct {
	gorm.Model
	AuthorID uint
	Title    string
}

// BeforeCreate is a hook of GORM.
func (b *Book) BeforeCreate(*gorm.DB) error {
	b.Title = strings.TrimSpace(b.Title)
	return nil
}

// AfterCreate is a hook of GORM: it must find the book, in whatever transaction
// there is or in none, and count it.
func (b *Book) AfterCreate(tx *gorm.DB) error {
	if err := tx.First(&Book{}, b.ID).Error; err != nil {
		return err
	}
	return tx.Model(&Author{}).Where("id = ?", b.AuthorID).UpdateColumn("visits", gorm.Expr("visits + 1")).Error
}

// schema has seeds, which are what the replicas have: an author with two books,
// and others to be changed and removed.
const schema = `
	create table authors (id bigserial primary key, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz,
		name text, visits bigint not null default 0);
	create unique index idx_authors_name on authors (name);
	create index idx_authors_deleted_at on authors (deleted_at);
	create table books (id bigserial primary key, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz,
		author_id bigint references authors, title text);
	insert into authors (name) values ('seed');
	insert into books (author_id, title) values (1, 'one'), (1, 'two');
	insert into authors (name) select 'change me ' || n from generate_series(1, 20) n;
	insert into authors (name) select 'remove me ' || n from generate_series(1, 20) n`

// program is what each configuration of GORM is put to.
type program struct {
	*paused.Cluster
	tide *pgtide.DB // under db
	db   *gorm.DB
	name string // of the configuration
	row  *int   // counts the seeds used up
}

func TestGORM(t *testing.T) {
	c := paused.New(t, schema)
	simple := func(o *pgx.ConnConfig) { o.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }
	// First, for its replicas must not be older than the default MaxStaleness.
	t.Run("driver name", func(t *testing.T) { byDriverName(t, c) })
	row := 0
	for name, v := range map[string]struct {
		config    gorm.Config
		configure func(*pgx.ConnConfig)
	}{
		"as it comes":                     {},
		"PrepareStmt":                     {config: gorm.Config{PrepareStmt: true}},
		"SkipDefaultTransaction":          {config: gorm.Config{SkipDefaultTransaction: true}},
		"both":                            {config: gorm.Config{PrepareStmt: true, SkipDefaultTransaction: true}},
		"simple protocol":                 {configure: simple},
		"simple protocol and PrepareStmt": {config: gorm.Config{PrepareStmt: true}, configure: simple},
	} {
		t.Run(name, func(t *testing.T) {
			tide := c.DB
			if v.configure != nil {
				tide = openWith(t, c, v.configure)
			}
			sqldb := pgtidesql.Open(tide)
			defer sqldb.Close()
			v.config.Logger = logger.Discard
			db, err := gorm.Open(postgres.New(postgres.Config{Conn: sqldb}), &v.config)
			if err != nil {
				t.Fatal(err)
			}
			p := &program{Cluster: c, tide: tide, db: db, name: name, row: &row}
			t.Run("reads", p.reads)
			t.Run("read after write", p.readAfterWrite)
			t.Run("change and remove", p.changeAndRemove)
			t.Run("transactions", p.transactions)
			t.Run("read-only transactions", p.readOnly)
			t.Run("locking", p.locking)
			t.Run("where the caller says", p.told)
			t.Run("one connection", p.connection)
			t.Run("errors", p.errors)
			t.Run("migrations", p.migrations)
			nothingTaken(t, tide)
		})
	}
}

// byDriverName is for programs that configure a driver and a DSN, and no more:
// the DSN names all nodes.
func byDriverName(t *testing.T, c *paused.Cluster) {
	db, err := gorm.Open(postgres.New(postgres.Config{DriverName: pgtidesql.DriverName, DSN: c.DSN()}), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sqldb, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer sqldb.Close() // and the nodes with it
	ctx := pgtide.NewSession(t.Context())
	if err := db.WithContext(ctx).First(&Author{}, "name = ?", "seed").Error; err != nil {
		t.Error(err)
	}
	allOnReplicas(t, ctx)
	if err := db.WithContext(ctx).Create(&Author{Name: "by name"}).Error; err != nil {
		t.Error(err)
	}
	if err := db.WithContext(ctx).First(&Author{}, "name = ?", "by name").Error; err != nil {
		t.Error(err)
	}
}

func (p *program) reads(t *testing.T) {
	for way, read := range map[string]func(*gorm.DB) (books int, err error){
		"First and Preload": func(db *gorm.DB) (int, error) {
			var a Author
			err := db.Preload("Books").Where("name = ?", "seed").First(&a).Error
			return len(a.Books), err
		},
		"Find and Joins": func(db *gorm.DB) (int, error) {
			var found []Book
			err := db.Joins("join authors on authors.id = books.author_id").Where("authors.name = ?", "seed").Find(&found).Error
			return len(found), err
		},
		"Association": func(db *gorm.DB) (int, error) {
			var found []Book
			err := db.Model(&Author{Model: gorm.Model{ID: 1}}).Association("Books").Find(&found)
			return len(found), err
		},
		"Count": func(db *gorm.DB) (int, error) {
			var n int64
			err := db.Model(&Book{}).Where("author_id = ? and title in ?", 1, []string{"one", "two"}).Count(&n).Error
			return int(n), err
		},
		"Pluck": func(db *gorm.DB) (int, error) {
			var titles []string
			err := db.Model(&Book{}).Where(&Book{AuthorID: 1}).Pluck("title", &titles).Error
			return len(titles), err
		},
		"FindInBatches": func(db *gorm.DB) (int, error) {
			var batch []Book
			n := 0
			err := db.Where("author_id = ?", 1).FindInBatches(&batch, 1, func(tx *gorm.DB, _ int) error {
				n += int(tx.RowsAffected)
				return nil
			}).Error
			return n, err
		},
		"Raw and Scan": func(db *gorm.DB) (n int, err error) {
			err = db.Raw("select count(*) from books where author_id = @id", map[string]any{"id": 1}).Scan(&n).Error
			return n, err
		},
		"Row": func(db *gorm.DB) (n int, err error) {
			err = db.Model(&Book{}).Select("count(*)").Where("author_id = ?", 1).Row().Scan(&n)
			return n, err
		},
		"Rows": func(db *gorm.DB) (n int, err error) {
			rows, err := db.Model(&Book{}).Where("author_id = ?", 1).Rows()
			if err != nil {
				return 0, err
			}
			defer rows.Close()
			for ; rows.Next(); n++ {
				if err := db.ScanRows(rows, &Book{}); err != nil {
					return n, err
				}
			}
			return n, rows.Err()
		},
		"generics": func(db *gorm.DB) (int, error) {
			found, err := gorm.G[Book](db).Where("author_id = ?", 1).Find(db.Statement.Context)
			return len(found), err
		},
	} {
		ctx := pgtide.NewSession(t.Context())
		if n, err := read(p.db.WithContext(ctx)); err != nil || n != 2 {
			t.Errorf("%s: %d books, %v; want 2", way, n, err)
		}
		allOnReplicas(t, ctx)
	}
}

func (p *program) errors(t *testing.T) {
	for where, ctx := range scopes(t) {
		db := p.db.WithContext(ctx)
		if err := db.Create(&Author{Name: "seed"}).Error; code(err) != "23505" {
			t.Errorf("%s, a name taken: %v, want a pgconn.PgError with 23505", where, err)
		}
		translated := db.Session(&gorm.Session{})
		config := *translated.Config
		config.TranslateError = true
		translated.Config = &config
		if err := translated.Create(&Author{Name: "seed"}).Error; !errors.Is(err, gorm.ErrDuplicatedKey) {
			t.Errorf("%s, a name taken, with TranslateError: %v, want gorm.ErrDuplicatedKey", where, err)
		}
		if err := db.First(&Author{}, "name = ?", "nobody").Error; !errors.Is(err, gorm.ErrRecordNotFound) {
			t.Errorf("%s, nobody: %v, want gorm.ErrRecordNotFound", where, err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if err := p.db.WithContext(cancelled).First(&Author{}).Error; !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v, want context.Canceled", where, err)
		}
		if err := p.db.WithContext(pgtide.OnNode(ctx, "nowhere")).First(&Author{}).Error; !errors.Is(err, pgtide.ErrUnknownNode) {
			t.Errorf("%s, on an unknown node: %v, want pgtide.ErrUnknownNode", where, err)
		}
	}
}
