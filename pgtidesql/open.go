package pgtidesql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/internal/front"
)

// DriverName is the name under which the driver is registered, for tools that
// take nothing but a driver's name and a connection string: the multi-host one
// of [pgtide.Options.DSN].
const DriverName = "pgtide"

func init() { sql.Register(DriverName, &Driver{}) }

// Open returns a *sql.DB over db. Closing it does not close db.
func Open(db *pgtide.DB) *sql.DB {
	return sql.OpenDB(&connector{pool: front.Of(db)})
}

// OpenDSN opens the nodes that dsn names, as [pgtide.Open] does with
// [pgtide.Options.DSN], and returns a *sql.DB over them. Closing it closes them.
func OpenDSN(ctx context.Context, dsn string) (*sql.DB, error) {
	c := &owner{dsn: dsn}
	if _, err := c.open(ctx); err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Driver is the driver registered as [DriverName].
type Driver struct{}

// Open implements [driver.Driver]. database/sql calls OpenConnector instead.
func (d *Driver) Open(dsn string) (driver.Conn, error) {
	return nil, errors.New("pgtidesql: open the driver through database/sql: a lone connection would watch all nodes for itself")
}

// OpenConnector implements [driver.DriverContext]. The nodes are opened with
// the first connection.
func (d *Driver) OpenConnector(dsn string) (driver.Connector, error) {
	return &owner{dsn: dsn}, nil
}

// connector makes handles on a DB that somebody else owns.
type connector struct{ pool front.Pool }

// Connect implements [driver.Connector].
func (c *connector) Connect(context.Context) (driver.Conn, error) { return &Conn{pool: c.pool}, nil }

// Driver implements [driver.Connector].
func (c *connector) Driver() driver.Driver { return &Driver{} }

// owner makes handles on a DB of its own.
type owner struct {
	dsn string

	mu     sync.Mutex // guards the fields below
	db     *pgtide.DB
	closed bool
}

func (c *owner) open(ctx context.Context) (*pgtide.DB, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, pgtide.ErrClosed
	}
	if c.db == nil {
		db, err := pgtide.Open(ctx, pgtide.Options{DSN: c.dsn})
		if err != nil {
			return nil, err
		}
		c.db = db
	}
	return c.db, nil
}

// Connect implements [driver.Connector].
func (c *owner) Connect(ctx context.Context) (driver.Conn, error) {
	db, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return &Conn{pool: front.Of(db)}, nil
}

// Driver implements [driver.Connector].
func (c *owner) Driver() driver.Driver { return &Driver{} }

// Close implements [io.Closer]: database/sql calls it when its DB is closed.
func (c *owner) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.db != nil {
		c.db.Close()
	}
	return nil
}
